//go:build unix

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/redis/rueidis"
	"github.com/rs/zerolog"
)

// Chaos is on for all of a run but its beginning and its end.
const (
	chaosBegins = 500 * time.Millisecond
	chaosPauses = 3 * time.Second // before the end of the run: all that is stale has to mend
	mendTime    = time.Second     // from then on no entry may have been stale for longer
)

// A fault is one line of the schedule.
type fault struct {
	kind   string
	worker int // -1: the server
	at     time.Duration
	length time.Duration
	amount int // of kinds that have one: ms, or KB/s
}

// Faults, each with what it does.
const (
	cutLink     = "cut"      // the link's connections are closed, and new ones refused
	stallLink   = "stall"    // nothing passes, and nobody is told: half-open
	stallUp     = "stall-up" // one way only
	stallDown   = "stall-down"
	delayLink   = "delay"
	delayUp     = "delay-up"
	delayDown   = "delay-down"
	throttle    = "throttle"
	killClients = "kill" // the server closes all connections
	freeze      = "freeze"
)

// schedule draws the faults of a run of this length: the same for the same
// seed. freezeServer says that the server is the demo's own. A link has one fault
// at a time: the proxy's may block each other.
func schedule(seed uint64, workers int, length time.Duration, freezeServer bool) (faults []fault) {
	r := rand.New(rand.NewPCG(seed, 0xc4a05))
	busy := make([]time.Duration, workers)
	kinds := []string{cutLink, stallLink, stallUp, stallDown, delayLink, delayUp, delayDown, throttle, killClients, freeze, freeze}
	between := func(from, to time.Duration) time.Duration { return from + time.Duration(r.Int64N(int64(to-from))) }
	for at := chaosBegins; ; at += between(20*time.Millisecond, 600*time.Millisecond) {
		f := fault{kind: kinds[r.IntN(len(kinds))], worker: r.IntN(workers), at: at, length: between(50*time.Millisecond, 2500*time.Millisecond)}
		f.amount = 20 + r.IntN(600)
		if f.kind == throttle {
			f.amount = 1 + r.IntN(30)
		}
		if server := r.IntN(12) == 0; f.kind == freeze && server && freezeServer {
			f.worker = -1
		}
		if f.at+f.length > length-chaosPauses {
			return faults
		}
		if f.kind != freeze && f.kind != killClients {
			if f.at < busy[f.worker] {
				continue
			}
			busy[f.worker] = f.at + f.length + 200*time.Millisecond
		}
		faults = append(faults, f)
	}
}

// proxies stand between the workers and Redis, one for each.
type proxies []*toxiproxy.Proxy

// bounded runs f, for as long as that may take: where a proxy is stuck, its
// worker has an endless fault, and the run goes on.
func bounded(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
	}
}

func startProxies(n int, upstream string) (ps proxies, err error) {
	zerolog.SetGlobalLevel(zerolog.Disabled) // some toxics log on their own
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	for i := range n {
		p := toxiproxy.NewProxy(server, fmt.Sprint("worker ", i), "127.0.0.1:0", upstream)
		if err := p.Start(); err != nil {
			ps.stop()
			return nil, err
		}
		ps = append(ps, p)
	}
	return ps, nil
}

func (ps proxies) stop() {
	for _, p := range ps {
		bounded(p.Stop)
	}
}

// chaos lets the faults happen, each at its time, and returns when the last one
// is over or ctx ends: then everything works again.
func chaos(ctx context.Context, faults []fault, ps proxies, all []*process, serverPid int, admin rueidis.Client) {
	began := time.Now()
	var wg sync.WaitGroup
	defer wg.Wait()
	after := func(d time.Duration) bool {
		select {
		case <-time.After(time.Until(began.Add(d))):
			return true
		case <-ctx.Done():
			return false
		}
	}
	for i, f := range faults {
		if !after(f.at) {
			return
		}
		undo := begin(i, f, ps, all, serverPid, admin)
		wg.Go(func() {
			after(f.at + f.length)
			bounded(undo)
		})
	}
}

// begin lets f happen and returns what ends it.
func begin(i int, f fault, ps proxies, all []*process, serverPid int, admin rueidis.Client) (undo func()) {
	name := fmt.Sprint("fault ", i)
	toxic := func(kind, direction, attributes string) func() {
		var undo []func()
		for _, d := range strings.Fields(direction) {
			name := name + d
			_, err := ps[f.worker].Toxics.AddToxicJson(strings.NewReader(fmt.Sprintf(
				`{"name": %q, "type": %q, "stream": %q, "attributes": %s}`, name, kind, d, attributes)))
			if err == nil {
				undo = append(undo, func() { ps[f.worker].Toxics.RemoveToxic(context.Background(), name) })
			}
		}
		return func() {
			for _, u := range undo {
				u()
			}
		}
	}
	delay := fmt.Sprintf(`{"latency": %d, "jitter": %d}`, f.amount, f.amount/4)
	switch f.kind {
	case cutLink:
		ps[f.worker].Stop()
		return func() { ps[f.worker].Start() } // where another cut of it is over already, it fails, and runs
	case stallLink:
		return toxic("timeout", "upstream downstream", `{"timeout": 0}`)
	case stallUp:
		return toxic("timeout", "upstream", `{"timeout": 0}`)
	case stallDown:
		return toxic("timeout", "downstream", `{"timeout": 0}`)
	case delayLink:
		return toxic("latency", "upstream downstream", delay)
	case delayUp:
		return toxic("latency", "upstream", delay)
	case delayDown:
		return toxic("latency", "downstream", delay)
	case throttle:
		return toxic("bandwidth", "downstream", fmt.Sprintf(`{"rate": %d}`, f.amount))
	case killClients:
		ctx, cancel := context.WithTimeout(context.Background(), f.length)
		defer cancel()
		for _, kind := range []string{"normal", "pubsub"} {
			admin.Do(ctx, admin.B().Arbitrary("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes").Build())
		}
	case freeze:
		pid := serverPid
		if f.worker >= 0 {
			pid = all[f.worker].cmd.Process.Pid
		}
		syscall.Kill(pid, syscall.SIGSTOP)
		return func() { syscall.Kill(pid, syscall.SIGCONT) }
	}
	return func() {}
}
