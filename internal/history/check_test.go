package history

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Short forms of operations: process, times, value.
func set(p int16, call, ret, v int64) Op {
	return Op{Kind: Set, Outcome: Done, Process: p, Call: call, Return: ret, Value: v}
}

func get(p int16, call, ret, v int64) Op {
	return Op{Kind: Get, Outcome: Done, Process: p, Call: call, Return: ret, Value: v}
}

func missing(p int16, call, ret int64) Op {
	return Op{Kind: Missing, Outcome: Done, Process: p, Call: call, Return: ret}
}

func del(p int16, call, ret int64) Op {
	return Op{Kind: Delete, Outcome: Done, Process: p, Call: call, Return: ret}
}

func with(o Op, f func(*Op)) Op { f(&o); return o }

func unknown(o Op) Op { return with(o, func(o *Op) { o.Outcome = Unknown }) }
func refused(o Op) Op { return with(o, func(o *Op) { o.Outcome = Refused }) }
func acked(o Op) Op   { return with(o, func(o *Op) { o.Acked = true }) }
func quiet(o Op) Op   { return with(o, func(o *Op) { o.Quiet = true }) }

var (
	coherent = Rules{NoStepBack: true, AtRest: true}
	leased   = Rules{NoStepBack: true, AtRest: true, Bound: 100}
)

func check(rules Rules, ops ...Op) []Violation { return Check(ByKey(ops, 10)[0], rules) }

func TestRightHistoriesPass(t *testing.T) {
	for name, c := range map[string]struct {
		rules Rules
		ops   []Op
	}{
		"nothing":                        {leased, []Op{missing(0, 1, 2)}},
		"one after the other":            {leased, []Op{set(0, 1, 2, 7), get(1, 3, 4, 7), set(1, 5, 6, 8), get(0, 7, 8, 8)}},
		"a read within a write, of old":  {leased, []Op{set(0, 1, 2, 7), set(0, 10, 20, 8), get(0, 12, 13, 7), get(0, 14, 15, 8), get(1, 21, 22, 8)}},
		"overlapping writes, either way": {coherent, []Op{set(0, 1, 10, 7), set(1, 2, 9, 8), get(0, 11, 12, 8), get(1, 11, 12, 8), get(0, 13, 14, 8)}},
		"the other way":                  {coherent, []Op{set(0, 1, 10, 7), set(1, 2, 9, 8), get(0, 11, 12, 7), get(1, 11, 12, 7)}},
		"who is told late, without a lease, in another process": {coherent, []Op{
			set(0, 1, 2, 7), get(1, 3, 4, 7), set(0, 5, 6, 8), get(1, 1000, 1001, 7), get(1, 1002, 1003, 8)}},
		"as old as the lease allows": {leased, []Op{
			set(0, 1, 2, 7), get(1, 3, 4, 7), set(0, 5, 6, 8), get(1, 106, 110, 7), get(1, 111, 112, 8)}},
		"an unknown write that never happened": {leased, []Op{set(0, 1, 2, 7), unknown(set(0, 3, 4, 8)), get(0, 500, 501, 7)}},
		"an unknown write that happened": {leased, []Op{
			set(0, 1, 2, 7), unknown(set(0, 3, 4, 8)), get(0, 5, 6, 8), get(1, 500, 501, 8)}},
		"a failed write that lands later, over another": {leased, []Op{
			set(0, 1, 2, 7), unknown(set(0, 3, 4, 8)), set(0, 5, 6, 9), get(0, 7, 8, 9), get(0, 300, 301, 8), get(1, 500, 501, 8)}},
		"a process that died while it wrote": {leased, []Op{
			set(0, 1, 2, 7), {Kind: Set, Call: 3, Value: 8}, get(1, 5, 6, 7), get(1, 7, 8, 8)}},
		"a refused write":                      {leased, []Op{set(0, 1, 2, 7), refused(set(0, 3, 4, 8)), get(0, 5, 6, 7)}},
		"Delete":                               {leased, []Op{missing(1, 0, 1), set(0, 1, 2, 7), get(1, 3, 4, 7), del(0, 5, 6), missing(0, 7, 8), missing(1, 200, 201)}},
		"set again":                            {leased, []Op{set(0, 1, 2, 7), del(0, 3, 4), missing(1, 5, 6), set(0, 7, 8, 9), missing(1, 20, 21), get(1, 22, 23, 9)}},
		"Delete and Set at once":               {coherent, []Op{set(0, 1, 2, 7), del(0, 3, 10), set(1, 4, 9, 8), get(1, 11, 12, 8), missing(0, 11, 12)}},
		"missing, told late":                   {coherent, []Op{missing(1, 0, 1), set(0, 2, 3, 7), missing(1, 200, 201), get(1, 202, 203, 7)}},
		"acknowledged":                         {leased, []Op{set(0, 1, 2, 7), get(1, 3, 4, 7), acked(set(0, 5, 20, 8)), get(1, 19, 25, 7), get(1, 26, 27, 8)}},
		"unconfirmed":                          {coherent, []Op{set(0, 1, 2, 7), get(1, 3, 4, 7), set(0, 5, 6, 8), get(1, 7, 8, 7)}},
		"acknowledged, and replaced meanwhile": {leased, []Op{acked(set(0, 5, 20, 8)), set(1, 6, 7, 9), get(2, 21, 22, 9)}},
		"acknowledged before one at once":      {leased, []Op{acked(set(0, 5, 20, 8)), set(1, 6, 30, 9), get(2, 21, 22, 8), get(2, 31, 32, 9)}},
		"Off: others step back": {Rules{Bound: 100}, []Op{
			set(0, 1, 2, 7), get(1, 3, 4, 7), set(0, 5, 6, 8), get(1, 7, 8, 8), get(1, 9, 10, 7)}},
		"Off, stopped just before": {Rules{Bound: 100, Running: true}, []Op{
			set(0, 1, 2, 7), get(1, 3, 4, 7), set(0, 5, 6, 8), {Kind: Stop, Process: 1, Call: 10, Return: 195, Outcome: Done}, get(1, 200, 201, 7)}},
		"Off at rest": {Rules{}, []Op{set(0, 1, 2, 7), set(0, 3, 4, 8), quiet(get(Redis, 10, 11, 8)), quiet(get(1, 10, 11, 7))}},
		"at rest":     {coherent, []Op{set(0, 3, 4, 8), quiet(get(Redis, 10, 11, 8)), quiet(get(1, 10, 11, 8))}},
	} {
		if broken := check(c.rules, c.ops...); len(broken) != 0 {
			t.Errorf("%s: %v", name, broken)
		}
	}
}

func TestWrongHistoriesAreSeen(t *testing.T) {
	for name, c := range map[string]struct {
		broken Promise
		rules  Rules
		ops    []Op
	}{
		"own write":       {OwnWrites, Rules{}, []Op{set(0, 1, 2, 7), set(0, 3, 4, 8), get(0, 5, 6, 7)}},
		"own first write": {OwnWrites, Rules{}, []Op{missing(0, 0, 1), set(0, 3, 4, 8), missing(0, 5, 6)}},
		"own delete":      {OwnWrites, Rules{}, []Op{set(0, 1, 2, 7), del(0, 3, 4), get(0, 5, 6, 7)}},
		"own write over another's, seen": {OwnWrites, Rules{}, []Op{
			set(1, 1, 10, 7), set(0, 2, 9, 8), get(1, 11, 12, 8), set(0, 13, 14, 9), get(0, 15, 16, 8)}},
		"step back":            {NoStepBack, coherent, []Op{set(0, 1, 2, 7), set(0, 3, 4, 8), get(1, 5, 6, 8), get(1, 7, 8, 7)}},
		"step back to nothing": {NoStepBack, coherent, []Op{set(0, 3, 4, 8), get(1, 5, 6, 8), missing(1, 7, 8)}},
		"step back from Delete": {NoStepBack, coherent, []Op{
			set(0, 1, 2, 7), set(1, 3, 4, 8), get(1, 5, 6, 8), del(0, 7, 8), set(0, 9, 10, 9), get(1, 11, 12, 9), missing(1, 13, 14)}},
		"to and fro between writes at once": {NoStepBack, coherent, []Op{
			set(0, 1, 10, 7), set(2, 1, 10, 8), get(1, 11, 12, 7), get(1, 13, 14, 8), get(1, 15, 16, 7)}},
		"two see writes at once in another order": {NoStepBack, coherent, []Op{
			set(0, 1, 10, 7), set(2, 1, 10, 8), get(1, 2, 3, 7), get(1, 4, 5, 8), get(3, 2, 3, 8), get(3, 4, 5, 7)}},
		"older than the lease":              {Lease, leased, []Op{set(0, 1, 2, 7), get(1, 3, 4, 7), set(0, 5, 6, 8), get(1, 107, 110, 7)}},
		"missing for longer than the lease": {Lease, leased, []Op{missing(1, 0, 1), set(0, 5, 6, 8), missing(1, 107, 110)}},
		"deleted for longer than the lease": {Lease, leased, []Op{set(0, 1, 2, 7), get(1, 3, 4, 7), del(0, 5, 6), get(1, 107, 110, 7)}},
		"older than the lease, by what another read of an unknown write": {Lease, leased, []Op{
			set(0, 1, 2, 7), get(1, 3, 4, 7), unknown(set(0, 5, 6, 8)), get(2, 7, 8, 8), get(1, 109, 110, 7)}},
		"acknowledged":        {Acknowledged, leased, []Op{set(0, 1, 2, 7), get(1, 3, 4, 7), acked(set(0, 5, 20, 8)), get(1, 21, 25, 7)}},
		"acknowledged Delete": {Acknowledged, leased, []Op{set(0, 1, 2, 7), get(1, 3, 4, 7), acked(del(0, 5, 20)), get(1, 21, 25, 7)}},
		"a lease, stopped just before": {Lease, leased, []Op{
			set(0, 1, 2, 7), get(1, 3, 4, 7), set(0, 5, 6, 8), {Kind: Stop, Process: 1, Call: 10, Return: 195, Outcome: Done}, get(1, 200, 201, 7)}},
		"Off, stopped long before": {Lease, Rules{Bound: 100, Running: true}, []Op{
			set(0, 1, 2, 7), get(1, 3, 4, 7), set(0, 5, 6, 8), {Kind: Stop, Process: 1, Call: 10, Return: 189, Outcome: Done}, get(1, 200, 201, 7)}},
		"what nobody wrote":     {Written, Rules{}, []Op{set(0, 1, 2, 7), get(0, 3, 4, 9)}},
		"before it was written": {Written, Rules{}, []Op{get(1, 1, 2, 7), set(0, 3, 4, 7)}},
		"a refused write":       {Written, Rules{}, []Op{set(0, 1, 2, 7), refused(set(0, 3, 4, 8)), get(0, 500, 501, 8)}},
		"at rest":               {AtRest, coherent, []Op{set(0, 1, 2, 7), set(0, 3, 4, 8), quiet(get(Redis, 10, 11, 8)), quiet(get(1, 10, 11, 7))}},
		"missing at rest":       {AtRest, coherent, []Op{set(0, 3, 4, 8), quiet(get(Redis, 10, 11, 8)), quiet(missing(1, 10, 11))}},
	} {
		broken := check(c.rules, c.ops...)
		if len(broken) != 1 || broken[0].Broken != c.broken {
			t.Errorf("%s: want %v, got %v", name, c.broken, broken)
			continue
		}
		read := broken[0].Read
		read.Stopped = false
		if !slices.Contains(c.ops, read) || broken[0].Why == "" {
			t.Errorf("%s: %+v", name, broken[0])
		}
	}
}

// world is a register at Redis and tiers that follow it, under a clock that counts
// steps.
type world struct {
	r       *rand.Rand
	now     int64
	history []struct{ at, value int64 } // of Redis
	tiers   [4]int                      // of each process: index in history
	ops     []Op
}

func (w *world) tick() int64 { w.now += 1 + w.r.Int64N(3); return w.now }

// play makes a history of n operations that breaks nothing but, if stale, one read in
// the middle, which is of a value six writes older than what
// its process would have read.
func play(seed uint64, n int, stale bool) (ops []Op, lied bool) {
	w := &world{r: rand.New(rand.NewPCG(seed, 1))}
	w.history = append(w.history, struct{ at, value int64 }{0, 0})
	type open struct {
		op     Op
		effect bool
	}
	var under [4]*open // one operation of a process at a time
	for done := 0; done < n; {
		p := w.r.IntN(4)
		o := under[p]
		switch {
		case o == nil:
			op := Op{Kind: Get, Process: int16(p), Call: w.tick(), Outcome: Done}
			if w.r.IntN(4) == 0 {
				op.Kind, op.Value = Set, int64(len(w.ops)*4+p+1000*n*done+1)
			}
			under[p] = &open{op: op}
		case !o.effect: // at Redis, or in the tier
			o.effect = true
			if o.op.Kind == Set {
				w.history = append(w.history, struct{ at, value int64 }{w.tick(), o.op.Value})
				w.tiers[p] = len(w.history) - 1
				break
			}
			at := w.tiers[p]
			if last := len(w.history) - 1; w.r.IntN(3) == 0 {
				at = at + w.r.IntN(last-at+1)
			}
			w.tiers[p] = at
			o.op.Value = w.history[at].value
			if stale && !lied && done > n/2 && at > 6 && w.history[at-6].value != 0 {
				o.op.Value, lied = w.history[at-6].value, true
				o.op.Client = 1
			}
		default:
			o.op.Return = w.tick()
			if o.op.Kind == Set && w.r.IntN(8) == 0 {
				o.op.Outcome = Unknown
			}
			if o.op.Kind == Get && o.op.Value == 0 {
				o.op.Kind = Missing
			}
			w.ops, under[p] = append(w.ops, o.op), nil
			done++
		}
	}
	for _, o := range under {
		if o != nil && o.op.Kind == Set {
			o.op.Outcome = Unknown
			w.ops = append(w.ops, o.op)
		}
	}
	return ByKey(w.ops, 0)[0], lied
}

func TestRandomHistoriesThatFollowRedisPass(t *testing.T) {
	for seed := range uint64(100) {
		ops, _ := play(seed, 120, false)
		if broken := Check(ops, Rules{NoStepBack: true}); len(broken) > 0 {
			t.Fatalf("seed %d: %v", seed, broken)
		}
	}
}

// One read is put back to what was replaced six writes before what its process had
// read: where the history shows these to be in an order, it is the one that is named.
func TestReadThatIsPutBackIsFound(t *testing.T) {
	found, named, lies := 0, 0, 0
	for seed := range uint64(100) {
		ops, lied := play(seed, 120, true)
		if !lied {
			continue
		}
		lies++
		broken := Check(ops, Rules{NoStepBack: true})
		if len(broken) == 0 {
			continue // nobody could tell: no read of this process returned since
		}
		found++
		if broken[0].Read.Client == 1 {
			named++
		}
	}
	t.Logf("%d put back, %d found, %d named", lies, found, named)
	if lies < 80 || found < lies*9/10 || named < found*9/10 {
		t.Errorf("%d put back, %d found, %d named", lies, found, named)
	}
}

func TestLargeHistoryIsJudgedFast(t *testing.T) {
	ops, _ := play(1, 3_000, true)
	began := time.Now()
	broken := Check(ops, Rules{NoStepBack: true})
	if len(broken) != 1 {
		t.Errorf("got %d violations, want 1", len(broken))
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
	t.Log(time.Since(began))
}

func TestExplanationTellsEachStep(t *testing.T) {
	broken := check(coherent, set(0, 1, 2, 7), set(0, 3, 4, 8), get(1, 5, 6, 8), get(1, 7, 8, 7))
	t.Log(fmt.Sprint(broken))
	for _, step := range []string{"set 7", "set 8", "get 8", "get 7", `"no step back"`} {
		if !strings.Contains(broken[0].Why, step) {
			t.Errorf("%q is not in:\n%s", step, broken[0].Why)
		}
	}
}

func TestPictureShowsTheReadAndAnOrderOfTheRest(t *testing.T) {
	ops := []Op{set(0, 1, 2, 7), set(0, 3, 4, 8), get(1, 5, 6, 8), get(1, 7, 8, 7), set(0, 9, 10, 9), get(1, 11, 12, 9)}
	path := filepath.Join(t.TempDir(), "picture.html")
	if err := Draw(path, ops, check(coherent, ops...)[0]); err != nil {
		t.Fatal(err)
	}
	html, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"no step back is broken", `"get 7"`, `"set 9"`, `"PartialLinearizations":[[`} {
		if !strings.Contains(string(html), want) {
			t.Errorf("the picture lacks %q", want)
		}
	}
}
