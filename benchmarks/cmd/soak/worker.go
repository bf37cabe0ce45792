//go:build unix

package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/hybrid"
	"github.com/flipcache/flipcache/internal/fleet"
	"github.com/flipcache/flipcache/invalidate"
)

// A mode is run with a lease, and its writes acknowledged or not. Those are not
// under faults: who has lost connections and dials again waits for longer than the
// next fault takes to come, so that hardly a write would be confirmed.
type mode struct {
	name  string
	mode  invalidate.Mode
	acked bool
}

func (p plan) modes() (some []mode) {
	for _, m := range []mode{
		{"pubsub, lease", invalidate.PubSub, false},
		{"tracking, lease", invalidate.Tracking, false},
		{"pubsub, lease, acked, no faults", invalidate.PubSub, true},
	} {
		if p.mode == nil || p.mode.MatchString(m.name) {
			some = append(some, m)
		}
	}
	return some
}

// audited is the share of local hits that the auditor looks at, too.
const audited = 0.01

// join makes what a worker needs.
func join(ctx context.Context, c fleet.Config) (fleet.Cache, fleet.Meter, error) {
	for _, m := range (plan{}).modes() {
		if m.name != c.Variant {
			continue
		}
		store, err := hybrid.Open(ctx, hybrid.StoreOptions{
			Client:       rueidis.ClientOption{InitAddress: c.Addr, ForceSingleClient: c.Single},
			Invalidation: m.mode, MaxStaleness: c.MaxStaleness, Timeout: c.Timeout,
		})
		if err != nil {
			return nil, nil, err
		}
		cache, err := hybrid.New(store, c.Name, hybrid.Options[string, []byte]{
			LocalTTL:  c.LocalTTL,
			LocalSize: c.Keys / 2, // it is full soon, and evicts
			Audit:     audited,
		})
		if err != nil {
			store.Close()
			return nil, nil, err
		}
		w := member{store: store, cache: cache, write: cache}
		if m.acked {
			w.write = cache.Acked()
		}
		pause, err := time.ParseDuration(os.Getenv(pauseVariable))
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", pauseVariable, err)
		}
		return w, &meter{cache: cache, pause: pause}, nil
	}
	return nil, nil, fmt.Errorf("no mode is called %q", c.Variant)
}

// pauseVariable tells workers the time between two samples.
const pauseVariable = "FLIPCACHE_SOAK_PAUSE"

// member is the cache as the fleet uses it: a value is its version and padding.
type member struct {
	store        *hybrid.Store
	cache, write *hybrid.Cache[string, []byte]
}

const valueSize = 100

func value(version uint64) []byte {
	return binary.BigEndian.AppendUint64(make([]byte, 0, valueSize), version)[:valueSize]
}

func (m member) Get(ctx context.Context, key string) (version uint64, err error) {
	v, err := m.cache.Get(ctx, key)
	if err == nil && len(v) != valueSize {
		err = fmt.Errorf("a value of %d bytes", len(v))
	}
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(v), nil
}

func (m member) Set(ctx context.Context, key string, version uint64) error {
	return m.write.Set(ctx, key, value(version))
}

func (m member) SetMany(ctx context.Context, keys []string, version uint64) error {
	batch := make(map[string][]byte, len(keys))
	for _, k := range keys {
		batch[k] = value(version)
	}
	return m.cache.SetMany(ctx, batch)
}

func (m member) Close() { m.store.Close() }

// A sample is what a worker takes at one time.
type sample struct {
	At                time.Duration // since the run began
	Resident, Heap    float64       // bytes; Heap after a collection of garbage
	Goroutines, Files float64
}

// measured is what a worker's meter tells the parent.
type measured struct {
	Samples []sample
	Worst   time.Duration // age of a stale read
	Audit   hybrid.AuditStats
	Hits    uint64
}

// meter samples its process and keeps the worst age.
type meter struct {
	cache *hybrid.Cache[string, []byte]
	pause time.Duration
	out   measured
	stop  chan struct{}
	wg    sync.WaitGroup
}

func (m *meter) Start() {
	m.stop = make(chan struct{})
	m.out.Samples = make([]sample, 0, 1<<12) // it does not grow while it is looked at
	began := time.Now()
	m.wg.Go(func() {
		t := time.NewTicker(m.pause)
		defer t.Stop()
		for {
			select {
			case <-m.stop:
				return
			case <-t.C:
				m.out.Samples = append(m.out.Samples, take(time.Since(began)))
			}
		}
	})
}

func (m *meter) Read(time.Duration, bool) (local bool) { return false }

func (m *meter) Stale(age time.Duration, _ bool) { m.out.Worst = max(m.out.Worst, age) }

func (m *meter) End() any {
	close(m.stop)
	m.wg.Wait()
	s := m.cache.Stats()
	m.out.Audit, m.out.Hits = s.Audit, s.Hits
	return m.out
}

// take samples this process. What the system does not tell is 0.
func take(at time.Duration) sample {
	var memory runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&memory)
	s := sample{At: at, Heap: float64(memory.HeapAlloc), Goroutines: float64(runtime.NumGoroutine())}
	if b, err := os.ReadFile("/proc/self/statm"); err == nil {
		if f := strings.Fields(string(b)); len(f) > 1 {
			pages, _ := strconv.ParseFloat(f[1], 64)
			s.Resident = pages * float64(os.Getpagesize())
		}
	}
	if files, err := os.ReadDir("/dev/fd"); err == nil {
		s.Files = float64(len(files))
	}
	return s
}
