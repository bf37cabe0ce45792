package hybrid

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/internal/clock"
	"github.com/flipcache/flipcache/invalidate"
)

// Report is what Check found. Its String is for a person.
type Report struct {
	// Problems names what is wrong and what to do, a line each. Empty: nothing.
	Problems []string
	// Notes names what is as it should be, and less than one may take it for.
	Notes []string

	Mode      invalidate.Mode
	State     invalidate.State // with the last cut and its cause
	Server    string           // program, version, kind and role
	RoundTrip time.Duration    // of a PING, the median of five
	Delivery  time.Duration    // from a write by another connection to its being heard here; 0: with invalidate.Off, or not heard

	MaxStaleness time.Duration // 0: no lease
	LeaseAge     time.Duration // since the probe that the lease counts from was sent

	// Peers are the processes in Tracking, or with a lease, that hold each cache
	// of this Store, this one among them; up to 5 s after their start they are
	// not known. Listeners counts the processes in PubSub.
	Peers     map[string][]invalidate.Member
	Listeners map[string]int64
}

// Check writes, listens and looks around, and says whether invalidation works
// from here, and if not, why. It takes some round trips, at most the Store's
// Timeout for each, and touches no cache. Call it when something is odd, or in
// a readiness probe.
//
// Errors: ErrClosed and ctx's error. What it finds wrong is in the report.
func (s *Store) Check(ctx context.Context) (Report, error) {
	r := Report{Mode: s.mode, State: s.State(), Peers: make(map[string][]invalidate.Member), Listeners: make(map[string]int64)}
	if err := s.ready(ctx); errors.Is(err, ErrCut) {
		r.problem("%v", err)
		return r, nil
	} else if err != nil {
		return r, &Error{Op: "check", Err: err}
	}
	if s.inCluster && s.announces {
		r.Notes = append(r.Notes, "in Redis Cluster announcements are best effort: nodes may lose messages to each other, and nobody is told; invalidate.Tracking does without")
	}
	if s.askServer(ctx, &r) {
		s.checkRights(ctx, &r)
		if s.stream != nil {
			s.checkDelivery(ctx, &r)
			s.checkPeers(ctx, &r)
		}
	}
	if r.State = s.State(); s.stream != nil {
		s.checkStream(&r)
	}
	if err := s.ready(ctx); err != nil {
		return r, &Error{Op: "check", Err: err}
	}
	return r, nil
}

func (r *Report) problem(format string, args ...any) {
	r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
}

// askServer says whether there is one.
func (s *Store) askServer(ctx context.Context, r *Report) bool {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	b := s.client.B()
	// In a cluster EXISTS brings HELLO to a master.
	hello, err := s.client.DoMulti(ctx, b.Exists().Key(checkCache).Build(), b.Arbitrary("HELLO").Build())[1].AsMap()
	if err != nil {
		r.problem("Redis does not answer: %v", redisError(err))
		return false
	}
	text := func(key string) string {
		m := hello[key]
		v, _ := m.ToString()
		return v
	}
	r.Server = strings.Join([]string{text("server"), text("version"), text("mode"), text("role")}, " ")
	if text("role") == "replica" {
		r.problem("the server is a replica: it lags behind, and takes no writes; connect to its master")
	}
	var trips []time.Duration
	for range 5 {
		began := time.Now()
		if err := s.client.DoMulti(ctx, b.Exists().Key(checkCache).Build(), b.Ping().Build())[1].Error(); err != nil {
			r.problem("PING: %v", redisError(err))
			return false
		}
		trips = append(trips, time.Since(began))
	}
	slices.Sort(trips)
	r.RoundTrip = trips[len(trips)/2]
	return true
}

// checkCache is the name of the cache that Check plays with. It is no user's.
const checkCache = reservedNames + "check"

// checkRights does what the methods of a cache do, once.
func (s *Store) checkRights(ctx context.Context, r *Report) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	key := checkCache + ":" + s.id
	b := s.data.B()
	commands := []rueidis.Completed{
		b.Set().Key(key).Value("").PxMilliseconds(s.timeout.Milliseconds()).Build(),
		b.Get().Key(key).Build(),
		b.Pttl().Key(key).Build(),
		b.Eval().Script("return redis.call('GET', KEYS[1])").Numkeys(1).Key(key).Build(),
		b.Unlink().Key(key).Build(),
		b.Scan().Cursor(0).Match(key).Build(),
	}
	names := []string{"SET", "GET", "PTTL", "EVAL", "UNLINK", "SCAN"}
	if s.announces {
		message, _ := invalidate.AppendKeys(nil, s.stream.Sender(), s.stream.Nonces(1), []string{s.id})
		for _, name := range s.cacheNames() {
			commands = append(commands, b.Publish().Channel(invalidate.Channel(name)).Message(rueidis.BinaryString(message)).Build())
			names = append(names, "PUBLISH to the channel of "+name)
		}
	}
	for i, result := range s.data.DoMulti(ctx, commands...) {
		if err := result.Error(); err != nil && !rueidis.IsRedisNil(err) {
			r.problem("%s: %v", names[i], redisError(err))
		}
	}
}

func (s *Store) cacheNames() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.names))
}

// listener is the tier that one Check listens with, for one key: that of others, and
// of Checks of before, say nothing.
type listener struct {
	key   string
	heard chan struct{}
}

func (l *listener) hear(key string) {
	if key != l.key {
		return
	}
	select {
	case l.heard <- struct{}{}:
	default:
	}
}

func (l *listener) Drop(key string, _ uint64, _ bool) { l.hear(key) }
func (l *listener) Push(key string)                   { l.hear(key) }
func (l *listener) DropAll()                          {}
func (l *listener) Cut()                              {}
func (l *listener) Resume()                           {}

// checkDelivery writes a key by a connection of its own, as another process
// would, and waits to hear of it.
func (s *Store) checkDelivery(ctx context.Context, r *Report) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	s.checking.Lock() // the stream drives one of them
	defer s.checking.Unlock()
	l := &listener{key: s.token(), heard: make(chan struct{}, 1)}
	if err := s.stream.Join(ctx, checkCache, l); err != nil {
		r.problem("SUBSCRIBE %s: %v", invalidate.Channel(checkCache), redisError(err))
		return
	}
	if s.stream.State().Status != invalidate.Live {
		return // checkStream says so
	}
	key := checkCache + ":" + l.key
	if s.mode == invalidate.Tracking {
		if err := s.data.Do(ctx, s.data.B().Get().Key(key).Build()).Error(); err != nil && !rueidis.IsRedisNil(err) {
			return // checkRights says so
		}
	}
	conn, release := s.client.Dedicate()
	defer release()
	b := conn.B()
	message, _ := invalidate.AppendKeys(nil, invalidate.Sender{}, 1, []string{l.key})
	commands := []rueidis.Completed{b.Set().Key(key).Value("").PxMilliseconds(s.timeout.Milliseconds()).Build()}
	if s.mode == invalidate.PubSub {
		commands = append(commands, b.Publish().Channel(invalidate.Channel(checkCache)).Message(rueidis.BinaryString(message)).Build())
	}
	began := time.Now()
	for _, result := range conn.DoMulti(ctx, commands...) {
		if err := result.Error(); err != nil {
			r.problem("a write for the test of delivery: %v", redisError(err))
			return
		}
	}
	select {
	case <-l.heard:
		r.Delivery = time.Since(began)
	case <-ctx.Done():
		r.problem("a write by another connection was not heard within %v: is everything connected to one server, without a proxy that spreads connections?", time.Since(began).Round(time.Millisecond))
	}
}

// checkPeers looks who else there is, and whether they hear each other.
func (s *Store) checkPeers(ctx context.Context, r *Report) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if err := s.stream.Ask(); err != nil { // which registers this process where it should be
		r.problem("a probe: %v", redisError(err))
	}
	for _, name := range s.cacheNames() {
		peers, err := s.stream.Members(ctx, name)
		if err != nil {
			r.problem("the peers of %s: %v", name, redisError(err))
			return
		}
		if r.Listeners[name], err = s.listeners(ctx, name); err != nil {
			r.problem("PUBSUB NUMSUB: %v", redisError(err))
			return
		}
		r.Peers[name] = peers
		for _, p := range peers {
			if r.Listeners[name] > 0 && !p.Announces {
				r.problem("of cache %s %d processes listen to announcements, and %s makes none: set StoreOptions.Announce there, or invalidate.Tracking everywhere",
					name, r.Listeners[name], p.Where)
				break
			}
		}
	}
}

// listeners counts those who listen to announcements of the cache name: in a cluster
// at all nodes, replicas too, that answer.
func (s *Store) listeners(ctx context.Context, name string) (n int64, err error) {
	channel := invalidate.Channel(name)
	answered := false
	for _, node := range s.client.Nodes() {
		at, failed := node.Do(ctx, node.B().PubsubNumsub().Channel(channel).Build()).AsIntMap()
		if failed != nil {
			err = failed
			continue
		}
		answered = true
		n += at[channel]
	}
	if answered {
		err = nil
	}
	return n, err
}

func (s *Store) checkStream(r *Report) {
	if r.State.Status != invalidate.Live {
		r.problem("invalidation is %v, so every read asks Redis", r.State)
	}
	s.mu.Lock()
	for _, name := range slices.Sorted(maps.Keys(s.deaf)) {
		r.problem("cache %s hears nothing, so its reads ask Redis: %v", name, redisError(s.deaf[name]))
	}
	s.mu.Unlock()
	if r.State.Status != invalidate.Live && s.serveStale > 0 {
		r.problem("reads that Redis does not answer are served for %v from what was held at the cut (ServeStaleFor)", s.serveStale)
	}
	if s.lease == nil {
		return
	}
	r.MaxStaleness = s.maxStaleness
	if r.LeaseAge = time.Duration(clock.Now()-s.lease.Load()) + r.MaxStaleness; r.LeaseAge > r.MaxStaleness {
		r.problem("the lease is over: no probe was answered for %v; is MaxStaleness (%v) too short for the round trip (%v)?", r.LeaseAge.Round(time.Millisecond), r.MaxStaleness, r.RoundTrip)
	}
}

// Err returns nil, or an error with all problems.
func (r Report) Err() error {
	if len(r.Problems) == 0 {
		return nil
	}
	return errors.New("flipcache: check: " + strings.Join(r.Problems, "; "))
}

// String returns the report for a person, in several lines.
func (r Report) String() string {
	var b strings.Builder
	line := func(what, format string, args ...any) {
		fmt.Fprintf(&b, "%-12s %s\n", what, fmt.Sprintf(format, args...))
	}
	verdict := "works"
	if len(r.Problems) > 0 {
		verdict = "does not work as it should"
	}
	line("verdict", "%v invalidation %s", r.Mode, verdict)
	for _, p := range r.Problems {
		line("problem", "%s", p)
	}
	for _, n := range r.Notes {
		line("note", "%s", n)
	}
	line("state", "%v since %v, %d cuts", r.State, r.State.Since.Format(time.RFC3339), r.State.Cuts)
	if r.State.Cuts > 0 {
		line("last cut", "%v: %v", r.State.LastCut.Format(time.RFC3339), r.State.LastCause)
	}
	line("server", "%s, round trip %v", r.Server, r.RoundTrip)
	if r.Delivery > 0 {
		line("delivery", "%v from a write to its being heard", r.Delivery)
	}
	if r.MaxStaleness > 0 {
		line("lease", "%v old of %v", r.LeaseAge.Round(time.Microsecond), r.MaxStaleness)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Peers)) {
		line("cache "+name, "%d processes listen to announcements", r.Listeners[name])
		for _, p := range r.Peers[name] {
			lease := "no lease"
			if p.Lease > 0 {
				lease = fmt.Sprint("lease ", p.Lease)
			}
			line("cache "+name, "%s, %v, %s", p.Where, p.Mode, lease)
		}
	}
	return b.String()
}
