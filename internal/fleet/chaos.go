//go:build unix

package fleet

import (
	"context"
	"math/rand/v2"
	"sync"
	"syscall"
	"time"

	"github.com/redis/rueidis"
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
// seed. freezeServer says that the server is the program's own. A link has one fault
// at a time.
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

// links are those of the workers, one for each.
type links []*link

func startLinks(n int, upstream string) (ls links, err error) {
	for range n {
		l, err := newLink(upstream)
		if err != nil {
			ls.stop()
			return nil, err
		}
		ls = append(ls, l)
	}
	return ls, nil
}

func (ls links) stop() {
	for _, l := range ls {
		l.stop()
	}
}

// chaos lets the faults happen, each at its time, and returns when the last one
// is over or ctx ends: then everything works again.
func chaos(ctx context.Context, faults []fault, ls links, all []*process, serverPid int, admin rueidis.Client) {
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
	for _, f := range faults {
		if !after(f.at) {
			return
		}
		undo := begin(f, ls, all, serverPid, admin)
		wg.Go(func() {
			after(f.at + f.length)
			undo()
		})
	}
}

// begin lets f happen and returns what ends it.
func begin(f fault, ls links, all []*process, serverPid int, admin rueidis.Client) (undo func()) {
	flows := func(hurt flow, ways ...int) func() {
		l := ls[f.worker]
		set := func(to flow) {
			l.change(func() {
				for _, way := range ways {
					l.flows[way] = to
				}
			})
		}
		set(hurt)
		return func() { set(flow{}) }
	}
	stalled, delayed := flow{stalled: true}, flow{delay: time.Duration(f.amount) * time.Millisecond}
	switch f.kind {
	case cutLink:
		l := ls[f.worker]
		l.change(func() { l.cut = true })
		return func() { l.change(func() { l.cut = false }) }
	case stallLink:
		return flows(stalled, up, down)
	case stallUp:
		return flows(stalled, up)
	case stallDown:
		return flows(stalled, down)
	case delayLink:
		return flows(delayed, up, down)
	case delayUp:
		return flows(delayed, up)
	case delayDown:
		return flows(delayed, down)
	case throttle:
		return flows(flow{rate: f.amount << 10}, down)
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
