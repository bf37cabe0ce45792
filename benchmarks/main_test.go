package benchmarks

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"go.uber.org/goleak"

	"github.com/flipcache/flipcache/hybrid"
	"github.com/flipcache/flipcache/internal/redisserver"
	"github.com/flipcache/flipcache/invalidate"
)

// running is the Redis of all benchmarks, once one has asked for it.
var running atomic.Pointer[redisserver.Server]

// start starts a redis-server where one is installed, else miniredis, and
// prints which, as a configuration line of the Go benchmark format.
var start = sync.OnceValue(func() error {
	s, err := redisserver.Any()
	if err != nil {
		return err
	}
	running.Store(s)
	fmt.Printf("redis: %s\n", s.Kind)
	return nil
})

func TestMain(m *testing.M) {
	stop := func() {
		if s := running.Load(); s != nil {
			s.Close()
		}
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	go func() {
		if _, open := <-interrupted; open {
			stop()
			os.Exit(130)
		}
	}()
	fmt.Printf("go: %s\ncores: %d\n", runtime.Version(), runtime.NumCPU())
	code := m.Run()
	stop()
	signal.Stop(interrupted)
	close(interrupted)
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func redisServer(b *testing.B) *redisserver.Server {
	b.Helper()
	if err := start(); err != nil {
		b.Fatal(err)
	}
	return running.Load()
}

// openStore opens a Store that ends with b. Where the server cannot track, b is
// skipped.
func openStore(b *testing.B, mode invalidate.Mode, lease ...time.Duration) *hybrid.Store {
	b.Helper()
	o := hybrid.StoreOptions{Client: redisServer(b).ClientOption(), Invalidation: mode}
	for _, o.MaxStaleness = range lease {
	}
	s, err := hybrid.Open(context.Background(), o)
	if errors.Is(err, hybrid.ErrUnsupported) {
		b.Skip(err)
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	return s
}

// newCache opens a cache of strings on s.
func newCache(b *testing.B, s *hybrid.Store, name string, o hybrid.Options[string, string]) *hybrid.Cache[string, string] {
	b.Helper()
	c, err := hybrid.New(s, name, o)
	if err != nil {
		b.Fatal(err)
	}
	return c
}

// bareClient is rueidis as a program would use it without this library, with
// the options that the library's own client has.
func bareClient(b *testing.B) rueidis.Client {
	b.Helper()
	c, err := rueidis.NewClient(redisServer(b).ClientOption())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(c.Close)
	return c
}

// subscribe has a connection of its own hear channel, and hear called on the
// goroutine that reads it.
func subscribe(b *testing.B, channel string, hear func(rueidis.PubSubMessage)) {
	b.Helper()
	conn, release := bareClient(b).Dedicate()
	b.Cleanup(release)
	conn.SetPubSubHooks(rueidis.PubSubHooks{OnMessage: hear})
	if err := conn.Do(context.Background(), conn.B().Subscribe().Channel(channel).Build()).Error(); err != nil {
		b.Fatal(err)
	}
}

// keyCount is how many keys the benchmarks work on.
const keyCount = 1000

// keys returns n keys of equal length.
func keys(n int) []string {
	ks := make([]string, n)
	for i := range ks {
		ks[i] = fmt.Sprintf("user:%06d", i)
	}
	return ks
}

// shuffled returns ks times over, in an order that is the same in each run. The
// strings are copies: who looks them up has to compare the bytes.
func shuffled(ks []string, times int) []string {
	order := make([]string, 0, len(ks)*times)
	for _, k := range ks {
		order = append(order, slices.Repeat([]string{strings.Clone(k)}, times)...)
	}
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	return order
}

// value is what is stored under every key.
var value = strings.Repeat("v", 100)
