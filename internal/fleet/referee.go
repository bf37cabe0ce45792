//go:build unix

package fleet

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/internal/judge"
	"github.com/flipcache/flipcache/internal/redisserver"
)

// A referee sees to it that reads are judged by what Redis holds. Replication is
// asynchronous: a replica that is promoted may lack writes which its master had
// acknowledged, and a master that was replaced, and does not know it, acknowledges
// writes that are lost when it learns of that. Both is Redis' own doing, and no
// staleness of a cache.
//
// So it watches the servers' roles, by connections that are nobody else's and that do
// not fail, and looks every lookEvery, and after each promotion. As long as nobody was
// promoted, and no deposed master may answer, all that had completed is there, and
// nothing has to be done. Else it is in doubt, and asks the master what it holds of each
// key that was written:
//
//   - versions whose write had completed before it asked, and that are newer than what
//     the master holds, are lost. They are struck from the table, and counted.
//   - If what the master holds was written since the doubt began, then nobody can see
//     whether the versions before it, of the last few seconds, were lost before they
//     were replaced. They are struck as well, and not counted: around a promotion reads
//     of such a key are judged from its owner's first write on that is there.
//
// Everything else is judged as ever. A look counts if the masters were the same before
// and after it.
//
// A write that was under way at the last look of a doubt may be lost, too, although it
// completes later: an acknowledged one waits for seconds. Its key is looked at until it
// has ended.
type referee struct {
	servers   several
	client    rueidis.Client // of a cluster; nil: the master is asked
	table     *judge.Table
	keys      int
	name      string // of the cache
	versionOf func([]byte) (uint64, error)

	mu    sync.Mutex // guards all below
	seen  map[*redisserver.Server]seen
	truth *redisserver.Server // with Sentinel: the master of the day
	// doubt is since when a server may have been promoted, or a deposed master
	// may have acknowledged writes, that no look has seen yet; 0: no such.
	doubt      time.Duration
	promotions []time.Duration
	promoted   chan struct{} // of capacity 1

	// Of the one that looks.
	held map[int]held // what there was at the look before, in this doubt
	// late are the keys that were being written in a doubt, by when that began.
	late map[int]time.Duration
	lost uint64
	why  error // the last look came to nothing; nil: it did not
}

// seen is what was last seen of a server.
type seen struct {
	role
	asked time.Duration // when
	known bool          // its role was ever seen
}

// held is what Redis held of a key at a look.
type held struct{ generation, version uint64 }

var errNoMasters = errors.New("the servers do not agree who is master")

// lag is how far a replica may be behind: it may have been stopped.
const lag = 5 * time.Second

const (
	// watchEvery is how often each server is asked for its role.
	watchEvery = 20 * time.Millisecond
	lookEvery  = 250 * time.Millisecond
	// fresh is how old an answer may be that counts.
	fresh = 500 * time.Millisecond
)

// run watches and looks until ctx ends.
func (r *referee) run(ctx context.Context) {
	r.seen, r.held, r.late = make(map[*redisserver.Server]seen), make(map[int]held), make(map[int]time.Duration)
	r.promoted = make(chan struct{}, 1)
	var wg sync.WaitGroup
	for _, s := range r.servers.data() {
		wg.Go(func() { r.watch(ctx, s) })
	}
	for ctx.Err() == nil {
		r.look(ctx)
		select {
		case <-ctx.Done():
		case <-r.promoted:
		case <-time.After(lookEvery):
		}
	}
	wg.Wait()
}

// watch asks one server for its role, again and again.
func (r *referee) watch(ctx context.Context, s *redisserver.Server) {
	for wait(ctx, watchEvery) == nil {
		if !s.Running() {
			continue
		}
		asked := judge.Now()
		is, err := r.servers.role(s)
		if err != nil {
			continue
		}
		r.mu.Lock()
		was := r.seen[s]
		r.seen[s] = seen{is, asked, true}
		if is.master && was.known && !was.master {
			r.promotions = append(r.promotions, judge.Now())
			r.truth = s
			r.doubtLocked(was.asked)
			clear(r.held)
			select {
			case r.promoted <- struct{}{}:
			default:
			}
		}
		r.mu.Unlock()
	}
}

// doubtLocked notes that what Redis holds is in doubt since then.
//
// REQUIRES: r.mu held.
func (r *referee) doubtLocked(since time.Duration) {
	if r.doubt == 0 {
		r.doubt = since
	}
}

// masters says who has the keys, by answers to what was asked after since; ok: that
// is known.
func (r *referee) masters(since time.Duration) (id string, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	since = max(since, judge.Now()-fresh)
	if r.client == nil {
		return r.master(since)
	}
	there := make(map[string]bool)
	for _, s := range r.servers.data() {
		is := r.seen[s]
		switch {
		case !s.Running():
			continue
		case is.asked < since || id != "" && is.view.Table != id:
			return "", false
		}
		id, there[is.view.Me] = is.view.Table, true
		for m := range is.view.Masters {
			there[m] = there[m] || false
		}
	}
	for _, answered := range there {
		if !answered {
			return "", false
		}
	}
	return id, id != ""
}

// master is masters where there is one: who was promoted last.
//
// REQUIRES: r.mu held.
func (r *referee) master(since time.Duration) (id string, ok bool) {
	var others int // that may answer as masters
	var one *redisserver.Server
	for _, s := range r.servers.data() {
		if is := r.seen[s]; s.Running() && (is.master || !is.known) {
			if others++; is.asked >= since && (one == nil || s == r.truth) {
				one = s
			}
		}
	}
	if others > 1 {
		r.doubtLocked(judge.Now())
		if one != r.truth {
			return "", false // it is not known which of them
		}
	}
	if one == nil {
		return "", false
	}
	r.truth = one
	return one.Addr, true
}

// look looks once at what Redis holds.
func (r *referee) look(ctx context.Context) {
	r.why = errNoMasters
	before, ok := r.masters(0)
	if !ok {
		return
	}
	look := r.table.BeginLook()
	r.mu.Lock()
	doubt, known := r.doubt, len(r.promotions)
	r.mu.Unlock()
	a := r.askFor(func(k int) bool { return doubt != 0 || r.late[k] != 0 })
	var err error
	if a.holds, err = r.read(ctx, a.names); err != nil {
		r.why = err
		return
	}
	// The roles of before, after all was read.
	for read := judge.Now(); judge.Now()-read < fresh; {
		if wait(ctx, watchEvery/2) != nil {
			return
		}
		after, ok := r.masters(read)
		if !ok {
			continue
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if after != before || len(r.promotions) != known || doubt == 0 && r.doubt != 0 {
			return
		}
		if r.strikeLate(a); doubt != 0 {
			r.strike(a.marks, a.holds, doubt)
			maps.Copy(r.late, a.underWay)
			if r.doubt = 0; r.client == nil {
				r.master(0) // a deposed one may be there yet
			}
			if r.doubt == 0 {
				clear(r.held)
			} else {
				r.doubt = doubt
			}
		}
		r.why = nil
		r.table.EndLook(look)
		return
	}
}

// asked is what a look asks for.
type asked struct {
	underWay map[int]time.Duration // writes, since when: before the marks were taken
	marks    map[int]judge.Mark
	names    []string
	holds    map[string]uint64 // by name
}

// askFor says what there is to ask for of the keys that are in question.
func (r *referee) askFor(question func(k int) bool) asked {
	a := asked{underWay: make(map[int]time.Duration), marks: make(map[int]judge.Mark)}
	for k := range r.keys {
		if !question(k) {
			continue
		}
		if began := r.table.UnderWay(k); began != 0 {
			a.underWay[k] = began
		}
		if m := r.table.Before(k); m.Version > firstVersion {
			a.marks[k] = m
			a.names = append(a.names, redisKey(r.name, k, m.Generation))
		}
	}
	return a
}

// read asks those that have them for keys.
func (r *referee) read(ctx context.Context, names []string) (map[string]uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	versions := make(map[string]uint64, len(names))
	if len(names) == 0 {
		return versions, nil
	}
	values := make(map[string]rueidis.RedisMessage, len(names))
	if r.client != nil {
		var err error
		if values, err = rueidis.MGet(r.client, ctx, names); err != nil {
			return nil, err
		}
	} else {
		r.mu.Lock()
		at := r.truth
		r.mu.Unlock()
		m, err := at.Do(append([]string{"MGET"}, names...)...)
		if err != nil {
			return nil, err
		}
		all, err := m.ToArray()
		if err != nil {
			return nil, err
		}
		for i, v := range all {
			values[names[i]] = v
		}
	}
	for name, m := range values {
		if m.IsNil() {
			continue
		}
		b, err := m.AsBytes()
		if err != nil {
			return nil, err
		}
		if versions[name], err = r.versionOf(b); err != nil {
			return nil, err
		}
	}
	return versions, nil
}

// strikeLate takes out of the table what Redis has lost of writes that were under way
// in a doubt, and forgets those that have ended.
//
// REQUIRES: r.mu held.
func (r *referee) strikeLate(a asked) {
	for k, began := range r.late {
		if m, ok := a.marks[k]; ok {
			r.strikeNewer(k, a.holds[redisKey(r.name, k, m.Generation)], m)
		}
		if a.underWay[k] != began {
			delete(r.late, k)
		}
	}
}

// strikeNewer takes out what is newer than v, which Redis holds of k.
//
// REQUIRES: r.mu held.
func (r *referee) strikeNewer(k int, v uint64, m judge.Mark) {
	if v < m.Version {
		r.lost += uint64(r.table.Strike(k, v+1, m.Version))
	}
}

// strike takes out of the table what Redis has lost.
//
// REQUIRES: r.mu held.
func (r *referee) strike(marks map[int]judge.Mark, versions map[string]uint64, doubt time.Duration) {
	for k, m := range marks {
		v := versions[redisKey(r.name, k, m.Generation)]
		was := r.held[k]
		r.held[k] = held{m.Generation, v}
		r.strikeNewer(k, v, m)
		at, ok := r.table.CompletedAt(k, v)
		if v == 0 || ok && at < doubt { // it came by replication, behind all before it
			continue
		}
		from := r.table.CompletedBefore(k, v, doubt-lag) + 1
		if was.generation == m.Generation {
			from = max(from, was.version+1)
		}
		r.table.Strike(k, from, min(v-1, m.Version))
	}
}
