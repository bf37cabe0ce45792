package sides

import (
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/flipcache/flipcache/internal/redisserver"
)

// running is the Redis of all benchmarks of the process, once one has asked for
// it.
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

// Redis returns the Redis of this process. Main stops it.
func Redis(tb testing.TB) *redisserver.Server {
	tb.Helper()
	if err := start(); err != nil {
		tb.Fatal(err)
	}
	return running.Load()
}

// Main is what a TestMain calls: it prints the machine, as configuration lines
// of the Go benchmark format, runs everything, stops the Redis, and fails where
// goroutines are left. It does not return.
func Main(m *testing.M, known ...goleak.Option) {
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
	if err := goleak.Find(known...); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}
