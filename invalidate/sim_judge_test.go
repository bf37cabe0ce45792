package invalidate

import "time"

// simJudge knows the history of each key, and what everybody was promised.
type simJudge struct {
	w     *world
	keys  []simHistory
	acked []int   // by key: the newest acknowledged position
	floor [][]int // by process and key: the newest position that a read or a write of it has shown
}

// simHistory is what a key held, one after the other.
type simHistory struct {
	all  []simHeld
	last map[int]int // by value: where it was held last
}

type simHeld struct {
	val         int
	from, until int64 // simForEver: it is held now
	expired     bool  // its life was over
}

func (h *simHistory) current() *simHeld { return &h.all[len(h.all)-1] }

func (h *simHistory) append(val int, at int64) int {
	if n := len(h.all); n > 0 {
		h.all[n-1].until = at
	}
	h.all = append(h.all, simHeld{val: val, from: at, until: simForEver})
	h.last[val] = len(h.all) - 1
	return len(h.all) - 1
}

// latest is the last position that holds the same value as pos: a command that
// arrived twice, or a failover, brings values back.
func (h *simHistory) latest(pos int) int { return h.last[h.all[pos].val] }

func (j *simJudge) init(w *world) {
	*j = simJudge{w: w, keys: make([]simHistory, w.cfg.keys), acked: make([]int, w.cfg.keys), floor: make([][]int, w.cfg.procs)}
	for k := range j.keys {
		j.keys[k].last = make(map[int]int)
		j.keys[k].append(0, 0)
	}
	for i := range j.floor {
		j.born(i)
	}
}

// born tells that process i begins anew: it has shown nothing.
func (j *simJudge) born(i int) { j.floor[i] = make([]int, j.w.cfg.keys) }

// simRead is a read under way: what had been promised when it began.
type simRead struct {
	p            *simProc
	key          int
	begun        int64
	floor, acked int
	fresh        bool
}

func (j *simJudge) begin(p *simProc, key int) simRead {
	return simRead{p: p, key: key, begun: j.w.now, floor: j.floor[p.id][key], acked: j.acked[key]}
}

// returns tells that r returned pos: a hit, as of the time that the process's clock
// said last; else what Redis held after r began, or may be taken for it.
func (j *simJudge) returns(r simRead, pos int, hit bool) {
	w, h := j.w, &j.keys[r.key]
	w.stats.reads++
	at, how := r.begun, "asked for"
	if hit {
		w.stats.hits++
		at, how = r.p.lastClock, "a hit"
	}
	w.logf("p%d reads k%d: #%d, %s", r.p.id, r.key, pos, how)
	if r.p.dead {
		return
	}
	latest := h.latest(pos)
	if latest < r.floor {
		w.broken("reads of a process never step back, and it reads its own writes", "p%d had #%d of k%d before it began to read, and got #%d (%s)", r.p.id, r.floor, r.key, pos, how)
	}
	if latest < r.acked {
		w.broken("no read is older than an acknowledged write", "#%d of k%d was acknowledged before p%d began to read, which got #%d (%s)", r.acked, r.key, r.p.id, pos, how)
	}
	if r.fresh && h.all[latest].until < r.begun {
		w.broken("a fresh read is asked of Redis", "p%d got #%d of k%d, which was replaced before it asked", r.p.id, pos, r.key)
	}
	// What has expired while a fill of it was under way, a reader that has joined may get.
	excused := h.all[latest].expired && !hit
	if until := h.all[latest].until; w.cfg.lease > 0 && !excused && until != simForEver && at-until > int64(w.cfg.lease) {
		w.broken("no read is older than the lease's bound", "p%d got #%d of k%d (%s), which was replaced %v ago; the bound is %v", r.p.id, pos, r.key, how, time.Duration(at-until), w.cfg.lease)
	}
	j.shown(r.p, r.key, pos)
}

// shown tells that a read of p returned pos of key, or a write of it.
func (j *simJudge) shown(p *simProc, key, pos int) {
	if !p.dead {
		j.floor[p.id][key] = max(j.floor[p.id][key], pos)
	}
}

func (j *simJudge) confirmed(key, pos int) {
	j.w.stats.acked++
	j.acked[key] = max(j.acked[key], pos)
}

// quiet compares every tier with Redis.
func (j *simJudge) quiet() {
	w := j.w
	for k := range j.keys {
		w.redis.expire(k)
		for _, p := range w.procs {
			e := p.tier.Peek(k)
			if e == nil || e.Deadline <= w.now {
				continue
			}
			w.stats.quiet++
			now, here := j.keys[k].current(), &j.keys[k].all[e.Value]
			if here.val != now.val || e.Missing != (here.val == 0) {
				w.broken("when all is quiet every tier equals Redis", "p%d holds #%d of k%d, and Redis #%d", p.id, e.Value, k, len(j.keys[k].all)-1)
			}
		}
	}
}
