package invalidate

import (
	"fmt"
	"math"
	"time"
)

// The simulation: a few processes, each with the shipped stream and the shipped
// table of flights, share a simulated Redis. One goroutine runs everything, step by
// step: a step is one critical section of a process, one command at Redis, or the
// arrival of one reply, message or error. Which comes next is drawn from the
// step's own seed; so a trace is a list of seeds, the same list is the same run,
// and a shorter list is a run, too.

// simRand draws what one step decides: splitmix64.
type simRand uint64

func (r *simRand) next() uint64 {
	*r += 0x9e3779b97f4a7c15
	z := uint64(*r)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

func (r *simRand) n(n int) int { return int(r.next() % uint64(n)) }

// one says whether an event of chance 1 in n happens.
func (r *simRand) one(n int) bool { return r.n(n) == 0 }

// simConfig is what an episode is about.
type simConfig struct {
	mode     Mode
	lease    time.Duration // MaxStaleness
	procs    int
	keys     int
	size     int           // of a tier, in entries
	negative time.Duration // NegativeTTL
	timeout  time.Duration // of a command
	acked    bool
	calm     bool // it is read much more than it is written
	faults   int  // one step in so many is a fault; 0: none
	most     int  // operations under way in a process
}

func simConfigOf(seed uint64) simConfig {
	r := simRand(seed)
	c := simConfig{
		mode: PubSub, procs: 2 + r.n(2), keys: 1 + r.n(3), size: 1 + r.n(8),
		timeout: time.Duration(20+r.n(200)) * time.Millisecond, most: 2 + r.n(5),
	}
	if r.one(2) {
		c.mode = Tracking
	}
	if r.n(3) > 0 {
		c.lease = MinStaleness + time.Duration(r.n(120))*time.Millisecond
		c.acked = r.one(2)
	}
	if r.one(2) {
		c.negative = time.Duration(1+r.n(500)) * time.Millisecond
	}
	c.calm = r.one(3)
	if r.n(4) > 0 {
		c.faults = 30 << r.n(4)
	}
	return c
}

func (c simConfig) String() string {
	return fmt.Sprintf("%v, lease %v, acked %t, %d processes, %d keys, %d entries, negative TTL %v, timeout %v, faults 1 in %d",
		c.mode, c.lease, c.acked, c.procs, c.keys, c.size, c.negative, c.timeout, c.faults)
}

// simStats counts what was explored.
type simStats struct {
	steps, reads, hits, fills, joins, kept, writes, keptWrites, acked, loads, clears, cuts, kills, freezes, restarts, quiet uint64
}

func (s *simStats) add(o simStats) {
	s.steps += o.steps
	s.reads += o.reads
	s.hits += o.hits
	s.fills += o.fills
	s.joins += o.joins
	s.kept += o.kept
	s.writes += o.writes
	s.keptWrites += o.keptWrites
	s.acked += o.acked
	s.loads += o.loads
	s.clears += o.clears
	s.cuts += o.cuts
	s.kills += o.kills
	s.freezes += o.freezes
	s.restarts += o.restarts
	s.quiet += o.quiet
}

func (s simStats) String() string {
	return fmt.Sprintf("%d reads (%d hits, %d fills, %d joined one), %d writes (%d kept, %d acknowledged), %d loads, %d clears; "+
		"%d cuts, %d connections broken, %d freezes, %d ends of a server or process; %d comparisons at quiet",
		s.reads, s.hits, s.fills, s.joins, s.writes, s.keptWrites, s.acked, s.loads, s.clears,
		s.cuts, s.kills, s.freezes, s.restarts, s.quiet)
}

// world is one episode.
type world struct {
	cfg   simConfig
	now   int64
	rng   *simRand // of the step under way
	depth int      // steps inside of a step: while somebody sleeps
	redis simRedis
	procs []*simProc
	judge simJudge
	stats simStats

	quieting bool // nothing new begins
	trace    func(string)
	failed   string // the broken promise; empty: none
}

func newWorld(cfg simConfig) *world {
	w := &world{cfg: cfg, now: int64(time.Hour)}
	w.redis.init(w)
	w.judge.init(w)
	for i := range cfg.procs {
		w.procs = append(w.procs, newSimProc(w, i, 0))
	}
	return w
}

// logf tells what a step did, if anybody listens.
func (w *world) logf(format string, args ...any) {
	if w.trace != nil {
		pad := ""
		if w.depth > 0 {
			pad = "    | "
		}
		w.trace(fmt.Sprintf("%10.3fms %s", float64(w.now-int64(time.Hour))/1e6, pad) + fmt.Sprintf(format, args...))
	}
}

// broken notes the first broken promise.
func (w *world) broken(promise, format string, args ...any) {
	if w.failed == "" {
		w.failed = promise + ": " + fmt.Sprintf(format, args...)
		w.logf("BROKEN %s", w.failed)
	}
}

// step does what seed says.
func (w *world) step(seed uint64) {
	r := simRand(seed)
	defer func(old *simRand) { w.rng = old }(w.rng)
	w.rng = &r
	switch d := r.n(200); {
	case d < 180:
		w.now += int64(r.n(200)) * int64(time.Microsecond)
	case d < 198:
		w.now += int64(r.n(3000)) * int64(time.Microsecond)
	default:
		w.now += int64(r.n(40)) * int64(time.Millisecond)
	}
	if !w.quieting && w.cfg.faults > 0 && r.one(w.cfg.faults) {
		w.stats.steps++
		w.fault()
		return
	}
	ways := [...]func() bool{w.begin, w.run, w.serve, w.hear, w.tend}
	first := 0
	switch d := r.n(100); {
	case d < 22:
	case d < 50:
		first = 1
	case d < 72:
		first = 2
	case d < 93:
		first = 3
	default:
		first = 4
	}
	for i := range ways {
		if ways[(first+i)%len(ways)]() {
			w.stats.steps++
			return
		}
	}
}

// some calls f with the indexes below n, beginning at a random one, until one is
// true.
func (w *world) some(n int, f func(i int) bool) bool {
	if n == 0 {
		return false
	}
	first := w.rng.n(n)
	for i := range n {
		if f((first + i) % n) {
			return true
		}
	}
	return false
}

// begin begins an operation.
func (w *world) begin() bool {
	if w.quieting {
		return false
	}
	return w.some(len(w.procs), func(i int) bool {
		p := w.procs[i]
		if !p.runs() || p.underWay >= w.cfg.most {
			return false
		}
		p.begin()
		return true
	})
}

// run goes on with a goroutine that is ready.
func (w *world) run() bool {
	return w.some(len(w.procs), func(i int) bool {
		p := w.procs[i]
		if !p.runs() || len(p.ready) == 0 {
			return false
		}
		p.runOne(w.rng.n(len(p.ready)))
		return true
	})
}

// serve has Redis take a command.
func (w *world) serve() bool {
	return w.some(len(w.redis.conns), func(i int) bool { return w.redis.serve(w.redis.conns[i]) })
}

// hear has a process read from a connection.
func (w *world) hear() bool {
	return w.some(len(w.redis.conns), func(i int) bool {
		c := w.redis.conns[i]
		return c.p.runs() && c.p.hear(c)
	})
}

// tend looks after what hangs on time.
func (w *world) tend() bool {
	return w.some(len(w.procs), func(i int) bool { return w.procs[i].runs() && w.procs[i].tend() })
}

// sleep has the world go on while a process, or one goroutine of it, is stopped.
func (w *world) sleep(p *simProc, whole bool) {
	w.stats.freezes++
	w.depth++
	if whole {
		p.stopped++
	}
	n := 1 + w.rng.n(16)
	if w.rng.one(8) {
		n = 1 + w.rng.n(300)
	}
	w.logf("p%d sleeps, whole %t", p.id, whole)
	if w.rng.one(3) {
		w.now += int64(w.rng.n(int(max(w.cfg.lease, 50*time.Millisecond))))
	}
	for range n {
		if w.failed == "" {
			w.step(w.rng.next())
		}
	}
	if whole {
		p.stopped--
	}
	w.depth--
}

// settle has nothing new begin, and everything under way end.
func (w *world) settle() {
	w.quieting = true
	defer func() { w.quieting = false }()
	r := simRand(uint64(w.now))
	w.rng = &r
	limit := w.now + int64(3*MaxMaxStaleness)
	w.logf("nothing new begins")
	for w.failed == "" {
		moved := false
		for w.run() || w.serve() || w.hear() || w.tend() {
			w.stats.steps++
			moved = true
			if w.failed != "" {
				return
			}
			if w.now += int64(time.Microsecond); w.now > limit {
				break
			}
		}
		if !moved {
			if w.isQuiet() {
				w.judge.quiet()
				return
			}
			w.now += int64(5 * time.Millisecond)
		}
		if w.now > limit {
			w.broken("hang", "something never ends: %s", w.unquiet())
		}
	}
}

func (w *world) isQuiet() bool { return w.unquiet() == "" }

func (w *world) unquiet() string {
	for _, p := range w.procs {
		if s := p.unquiet(); s != "" {
			return fmt.Sprintf("p%d: %s", p.id, s)
		}
	}
	return ""
}

// runSim runs the steps, with pauses in which all must agree, and returns the
// world as it is at the end, or where the first promise was broken.
func runSim(cfg simConfig, steps []uint64, trace func(string)) *world {
	w := newWorld(cfg)
	w.trace = trace
	w.settle()
	for i, s := range steps {
		if w.failed != "" {
			return w
		}
		w.step(s)
		if s%700 == 0 || i == len(steps)-1 {
			w.settle()
		}
	}
	if w.failed == "" && len(steps) == 0 {
		w.settle()
	}
	return w
}

const simForEver = math.MaxInt64
