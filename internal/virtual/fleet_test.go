//go:build unix

package virtual

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/hybrid"
	"github.com/flipcache/flipcache/internal/history"
	"github.com/flipcache/flipcache/internal/history/client"
	"github.com/flipcache/flipcache/invalidate"
)

const (
	slots   = 3 // processes at a time
	clients = 4 // of each
	timeout = 400 * time.Millisecond
	name    = "virtual" // of the cache
)

// A fleet is an episode under way.
type fleet struct {
	episode
	t              *testing.T
	dir            string // of logs
	began          time.Time
	redis          *redis
	network        *network
	writes, counts *history.Tickets

	mu   sync.Mutex // guards all below
	logs []*history.Log
	hits uint64
}

// A process lives in a slot, until another one takes its place.
type process struct {
	client.Process
	store *hybrid.Store
}

func newFleet(t *testing.T, e episode, dir string) *fleet {
	f := &fleet{episode: e, t: t, dir: dir, began: time.Now(), redis: newRedis(t)}
	f.network = newNetwork(e.seed, e.usual, f.redis.Dial)
	var err error
	if f.writes, err = history.OpenTickets(filepath.Join(dir, "writes")); err != nil {
		t.Fatal(err)
	}
	if f.counts, err = history.OpenTickets(filepath.Join(dir, "counts")); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fleet) now() time.Duration { return time.Since(f.began) + time.Second }

// start starts a process in a slot.
func (f *fleet) start(slot int, r *rand.Rand) (*process, error) {
	o := hybrid.StoreOptions{
		Client:       rueidis.ClientOption{InitAddress: []string{"redis:6379"}, DialCtxFn: f.network.dialer(slot), ForceSingleClient: true},
		Invalidation: f.Mode, Timeout: timeout, StartCut: r.IntN(2) == 0,
	}
	c := hybrid.Options[int32, int64]{NegativeTTL: time.Minute, LocalSize: 2 * client.Registers}
	if f.Lease {
		o.MaxStaleness = client.Lease
	}
	if f.Mode == invalidate.Off {
		c.LocalTTL = client.LocalTTL
	}
	store, err := hybrid.Open(context.Background(), o)
	for err != nil {
		time.Sleep(20 * time.Millisecond)
		store, err = hybrid.Open(context.Background(), o)
	}
	log, number, err := f.log()
	if err != nil {
		return nil, err
	}
	p := &process{client.Process{
		Number: number, Log: log, Now: f.now, Writes: f.writes, Counts: f.counts, Acked: f.Acked,
	}, store}
	p.Cache, err = hybrid.New(store, name, c)
	return p, err
}

// log opens a log for one more process, and gives it a number.
func (f *fleet) log() (*history.Log, int16, error) {
	const capacity = 200_000 // operations
	f.mu.Lock()
	defer f.mu.Unlock()
	log, err := history.OpenLog(filepath.Join(f.dir, strconv.Itoa(len(f.logs))), capacity)
	f.logs = append(f.logs, log)
	return log, int16(len(f.logs)), err
}

// live has one process after the other live in a slot, and returns the last one.
func (f *fleet) live(ctx context.Context, slot int) (*process, error) {
	r := rand.New(rand.NewPCG(f.seed, uint64(10+slot)))
	for {
		p, err := f.start(slot, r)
		if err != nil {
			return nil, err
		}
		life, over := context.WithTimeout(ctx, f.long/4+time.Duration(r.Int64N(int64(2*f.long))))
		f.work(life, p)
		over()
		if ctx.Err() != nil {
			return p, nil
		}
		if r.IntN(2) == 0 { // its last words are not heard
			f.network.lose(f.network.of(slot))
		}
		f.end(p)
	}
}

func (f *fleet) end(p *process) {
	f.mu.Lock()
	f.hits += p.Cache.Stats().Hits
	f.mu.Unlock()
	p.store.Close()
}

// work has the clients of p work until ctx ends.
func (f *fleet) work(ctx context.Context, p *process) {
	var wg sync.WaitGroup
	for i := range clients {
		c := client.New(p.Process, i, f.seed)
		r := rand.New(rand.NewPCG(f.seed, uint64(p.Number)<<8|uint64(i)))
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := c.Step(context.WithoutCancel(ctx)); err != nil {
					f.t.Errorf("process %d: %v", p.Number, err)
					return
				}
				time.Sleep(time.Duration(r.Int64N(int64(f.pause))))
			}
		})
	}
	wg.Wait()
}

// chaos has the network fail until ctx ends, and mends it.
func (f *fleet) chaos(ctx context.Context) {
	n, r := f.network, rand.New(rand.NewPCG(f.seed, 2))
	defer n.mend()
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Duration(r.Int64N(int64(f.fault)))):
		}
		slot := r.IntN(slots)
		long := time.Duration(r.Int64N(int64(time.Second)))
		if r.IntN(5) == 0 {
			long *= 3
		}
		conns := n.of(slot)
		if r.IntN(2) == 0 && len(conns) > 1 {
			conns = conns[:1]
		}
		switch r.IntN(10) {
		case 0:
			cut(conns, ofProcess)
		case 1:
			cut(conns, ofRedis)
		case 2:
			n.lose(conns)
		case 3:
			n.hold(slot, says, long)
		case 4:
			n.hold(slot, hears, long)
		case 5:
			n.hold(slot, says, long)
			n.hold(slot, hears, long)
		case 6, 7:
			n.slow(slot, time.Duration(r.Int64N(int64(200*time.Millisecond))))
		case 8:
			n.stop(long / 2)
		case 9:
			n.refuse(true)
			cut(n.of(everybody), r.IntN(2))
			time.Sleep(long / 2)
			n.refuse(false)
		}
	}
}

// rest has all be quiet, and the last processes compare their tiers with Redis. It
// returns what Redis holds.
func (f *fleet) rest(last []*process) []history.Op {
	const quiet = 10 * time.Second
	time.Sleep(quiet)
	ctx, cancel := context.WithTimeout(context.Background(), quiet)
	defer cancel()
	for _, p := range last {
		if s := p.store.State(); s.Status != invalidate.Live && f.Mode != invalidate.Off {
			f.t.Errorf("process %d after %v of quiet: %v", p.Number, quiet, s)
		}
		if err := client.New(p.Process, 0, 0).Rest(ctx); err != nil {
			f.t.Errorf("process %d: %v", p.Number, err)
		}
	}
	truth, err := client.Truth(f.writes, f.now, func(key int32) (value int64, there bool, err error) {
		k := fmt.Sprintf("%s:%d", name, key)
		if !f.redis.Exists(k) {
			return 0, false, nil
		}
		s, err := f.redis.Get(k)
		if err == nil {
			value, err = strconv.ParseInt(s, 10, 64)
		}
		return value, true, err
	})
	if err != nil {
		f.t.Error(err)
	}
	return truth
}

// close ends everything, and returns what was done.
func (f *fleet) close() (ops []history.Op) {
	f.redis.Close()
	f.network.close()
	for _, log := range f.logs {
		ops = append(ops, log.Ops()...)
		log.Close()
	}
	f.writes.Close()
	f.counts.Close()
	return ops
}
