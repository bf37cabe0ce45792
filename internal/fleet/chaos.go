//go:build unix

package fleet

import (
	"context"
	"math/rand/v2"
	"sync"
	"syscall"
	"time"
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
	server int // whose link to the worker it is, of several; -1: all of them
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
// seed. freezeServer says that the server is the program's own. Of each worker's links
// some have a fault at a time: all of them, or that to one of several servers.
func schedule(seed uint64, workers, servers int, length time.Duration, freezeServer bool) (faults []fault) {
	r := rand.New(rand.NewPCG(seed, 0xc4a05))
	of := rand.New(rand.NewPCG(seed, 0x5e7e7)) // one server's schedule is that of before there were several
	busy := make([]time.Duration, workers)
	kinds := []string{cutLink, stallLink, stallUp, stallDown, delayLink, delayUp, delayDown, throttle, killClients, freeze, freeze}
	between := func(from, to time.Duration) time.Duration { return from + time.Duration(r.Int64N(int64(to-from))) }
	for at := chaosBegins; ; at += between(20*time.Millisecond, 600*time.Millisecond) {
		f := fault{kind: kinds[r.IntN(len(kinds))], worker: r.IntN(workers), at: at, length: between(50*time.Millisecond, 2500*time.Millisecond)}
		f.server = -1
		if one := of.IntN(2 * servers); servers > 1 && one < servers {
			f.server = one
		}
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

// links are those of one worker, one to each server.
type links []*link

func startLinks(upstream []string) (ls links, err error) {
	for _, addr := range upstream {
		l, err := newLink(addr)
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

// addrs returns where each server is reached by them.
func (ls links) addrs() map[string]string {
	m := make(map[string]string)
	for _, l := range ls {
		m[l.upstream] = l.addr()
	}
	return m
}

// change has f change those that f concerns.
func (ls links) change(f fault, change func(*link)) {
	for i, l := range ls {
		if f.server < 0 || f.server == i {
			l.change(func() { change(l) })
		}
	}
}

// hurt is what the faults hurt.
type hurt struct {
	links       []links // of each worker
	workers     []*process
	server      int    // the process id of the one server; 0: it may not be stopped
	killClients func() // closes all connections of all servers
}

// chaos lets the faults happen, each at its time, and returns when the last one
// is over or ctx ends: then everything works again.
func chaos(ctx context.Context, faults []fault, h hurt) {
	began := time.Now()
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, f := range faults {
		if wait(ctx, time.Until(began.Add(f.at))) != nil {
			return
		}
		if f.kind == killClients {
			wg.Go(h.killClients) // a server that is stopped is waited for
			continue
		}
		undo := h.begin(f)
		wg.Go(func() {
			wait(ctx, time.Until(began.Add(f.at+f.length)))
			undo()
		})
	}
}

// begin lets f happen and returns what ends it.
func (h hurt) begin(f fault) (undo func()) {
	flows := func(hurt flow, ways ...int) func() {
		set := func(to flow) {
			h.links[f.worker].change(f, func(l *link) {
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
		cut := func(is bool) { h.links[f.worker].change(f, func(l *link) { l.cut = is }) }
		cut(true)
		return func() { cut(false) }
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
	case freeze:
		pid := h.server
		if f.worker >= 0 {
			pid = h.workers[f.worker].cmd.Process.Pid
		}
		syscall.Kill(pid, syscall.SIGSTOP)
		return func() { syscall.Kill(pid, syscall.SIGCONT) }
	}
	return func() {}
}
