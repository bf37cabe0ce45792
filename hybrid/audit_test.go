package hybrid

import (
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/flipcache/flipcache/internal/redistest"
	"github.com/flipcache/flipcache/invalidate"
)

// audited has every local hit compared with Redis.
func audited(_ *StoreOptions, o *Options[string, string]) { o.Audit = 1 }

func (p process) audits() AuditStats { return p.Stats().Audit }

func TestAuditFindsWhatWasNotAnnounced(t *testing.T) {
	t.Parallel()
	s := redistest.Real(t)
	core, logs := observer.New(zapcore.WarnLevel)
	p := join(t, s, invalidate.PubSub, audited, func(so *StoreOptions, _ *Options[string, string]) { so.Logger = zap.New(core) })
	p.set(t, "good", "v")
	p.set(t, "k", "old")
	admin := redistest.Client(t, s)
	began := time.Now()
	redistest.Do(t, admin, "SET", "n:k", "new") // as redis-cli does
	read := func(want func(AuditStats) bool) func() bool {
		return func() bool {
			p.want(t, "k", "old")
			p.want(t, "good", "v")
			return want(p.audits())
		}
	}
	eventually(t, "a stale hit is found", read(func(a AuditStats) bool { return a.Under1s > 0 }))
	if since := time.Since(began); since < auditGrace {
		t.Errorf("found after %v: its invalidation could have been under way", since)
	}
	eventually(t, "one that is a second old is found", read(func(a AuditStats) bool { return a.Under5s > 0 }))
	a := p.audits()
	if since := time.Since(began); a.Worst < time.Second || a.Worst > since || a.Under60s+a.Over60s > 0 {
		t.Errorf("after %v: %+v", since, a)
	}
	if a.Checked < 2*a.Stale(0)/3 || a.Stale(time.Second) != a.Under5s {
		t.Errorf("half of the hits are of a good key: %+v", a)
	}
	off := p.Offenders()
	if len(off) != 1 || off[0].Key != "k" || off[0].AtLeast < auditGrace || off[0].AtMost < off[0].AtLeast || off[0].Found.Before(began) {
		t.Fatalf("offenders: %+v", off)
	}
	if !slices.ContainsFunc(off[0].Events, func(e Event) bool { return e.What == "a write ended: inserted" && e.At.Before(off[0].Found) }) {
		t.Errorf("its entry's insertion is not among %v", off[0].Events)
	}
	lines := logs.All()
	if len(lines) != 1 || lines[0].ContextMap()["key"] != "k" {
		t.Errorf("logged: %v", lines)
	}
	p.must(t, p.Delete(ctx, "k"))
	eventually(t, "it is forgotten", func() bool {
		p.want(t, "good", "v")
		return p.audits().Checked > a.Checked+100
	})
	if b := p.audits(); b.Stale(0) > a.Stale(0)+auditQueue {
		t.Errorf("stale hits are found on: %+v, then %+v", a, b)
	}
}

func (p process) must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Reads and writes of few keys by several processes: at any time some value was just
// replaced, and no hit is stale.
func TestAuditFindsNothingUnderHeavyWrites(t *testing.T) {
	for _, mode := range []invalidate.Mode{invalidate.PubSub, invalidate.Tracking} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			s := redistest.Real(t)
			var all []process
			for range 2 {
				st := openStore(t, s, mode)
				st.auditGrace = time.Second // others may keep this machine busy
				all = append(all, process{newOn(t, st, "n", Options[string, string]{Audit: 1}), st})
			}
			stop := make(chan struct{})
			var wg sync.WaitGroup
			for i, p := range all {
				for g := range 3 {
					wg.Go(func() {
						for n := 0; ; n++ {
							select {
							case <-stop:
								return
							default:
							}
							k := key((n*7 + g) % 16)
							if g == 0 && n%4 == 0 {
								if err := p.Set(ctx, k, strconv.Itoa(i*1_000_000+n)); err != nil {
									t.Error(err)
									return
								}
							} else if _, err := p.Get(ctx, k); err != nil && !errors.Is(err, ErrNotFound) {
								t.Error(err)
								return
							}
						}
					})
				}
			}
			eventually(t, "many hits are checked", func() bool { return all[0].audits().Checked > 1000 && all[1].audits().Checked > 1000 })
			close(stop)
			wg.Wait()
			for _, p := range all {
				if a := p.audits(); a.Stale(0) > 0 {
					t.Errorf("%+v, %+v", a, p.Offenders())
				}
			}
		})
	}
}

// In Off the auditor measures what a plain cache with a TTL does.
func TestAuditMeasuresOff(t *testing.T) {
	t.Parallel()
	s := redistest.Embedded(t)
	p := join(t, s, invalidate.Off, audited)
	q := join(t, s, invalidate.Off)
	p.set(t, "k", "old")
	q.set(t, "k", "new")
	eventually(t, "stale hits are found", func() bool {
		p.want(t, "k", "old")
		return p.audits().Under1s > 3
	})
	if n := p.audits().Nines(0); n > 1 {
		t.Errorf("%v nines of hits that are all stale", n)
	}
}

// An auditor that nobody started, on a clock that the test moves.
func quietAuditor(t *testing.T) (a *auditor[string, string], p process, advance func(time.Duration)) {
	t.Helper()
	st := openStore(t, redistest.Embedded(t), invalidate.PubSub)
	advance = manualClock(st)
	p = process{newOn(t, st, "n", Options[string, string]{Audit: 1}), st}
	return newAuditor(p.Cache, 1), p, advance
}

func TestChangeThatIsUnderWayIsNotStale(t *testing.T) {
	t.Parallel()
	a, p, advance := quietAuditor(t)
	now := p.store.clock.Exact
	want := func(what string, checked, stale uint64) {
		t.Helper()
		if got := a.counters.stats(); got.Checked != checked || got.Stale(0) != stale {
			t.Errorf("%s: %+v, want %d checked and %d stale", what, got, checked, stale)
		}
	}
	hit := func() *probe[string, string] {
		return &probe[string, string]{entry: p.flights.Hit("k")}
	}

	p.set(t, "k", "1")
	e := hit().entry
	a.judge(e, false, now())
	want("seen to differ once", 0, 0)
	advance(auditGrace - 1)
	a.judge(e, false, now())
	want("again, within the grace", 0, 0)
	p.flights.Message("k", 7, false) // the invalidation comes
	advance(1)
	a.judge(e, false, now())
	want("the entry went in time", 1, 0)

	p.set(t, "k", "2")
	e = hit().entry
	a.judge(e, false, now())
	advance(auditGrace)
	p.set(t, "k", "3") // another entry of the same key is no proof against this one
	a.judge(e, false, now())
	want("another entry took its place", 2, 0)

	e = hit().entry
	a.judge(e, false, now())
	advance(auditGrace)
	a.judge(e, true, now())
	want("Redis has the same again", 3, 0)

	a.judge(e, false, now())
	advance(auditGrace)
	a.judge(e, false, now())
	want("it is served after the grace", 4, 1)
	advance(5 * time.Second)
	a.judge(e, false, now())
	if got := a.counters.stats(); got.Under1s != 1 || got.Under60s != 1 || got.Worst != 5*time.Second+auditGrace {
		t.Errorf("five seconds later: %+v", got)
	}
	if len(a.found) != 1 {
		t.Errorf("one entry was found, reported %d times", len(a.found))
	}
	p.flights.Cut()
	a.forget()
	if len(a.suspects) > 0 {
		t.Error("a cut has emptied the tier, and suspects are left")
	}
}

// A GET on the tracked connection would have Redis tell of the next change.
func TestAuditHasRedisTrackNothing(t *testing.T) {
	t.Parallel()
	s := redistest.Real(t)
	st := openStore(t, s, invalidate.Tracking)
	p := process{newOn(t, st, "n", Options[string, string]{Audit: 1}), st}
	admin := redistest.Client(t, s)
	p.set(t, "k", "1")
	a, e := newAuditor(p.Cache, 1), p.flights.Hit("k")
	redistest.Do(t, admin, "SET", "n:k", "2")
	eventually(t, "the change is heard", func() bool { return !p.held("k") })
	fence(t, st) // and is counted
	before, fills := p.counters.received.Load(), p.fillCount()
	a.check(ctx, []probe[string, string]{{entry: e}})
	redistest.Do(t, admin, "SET", "n:k", "3")
	fence(t, st)
	if n := p.counters.received.Load() - before; n > 0 || p.held("k") || p.fillCount() > fills || a.counters.checked.Load() != 1 {
		t.Errorf("%d changes heard of a key that is not held; %+v", n, a.counters.stats())
	}
}

func TestAuditIsBoundedAndEndsWithoutRedis(t *testing.T) {
	t.Parallel()
	s := redistest.Real(t)
	p := join(t, s, invalidate.Off, audited, func(so *StoreOptions, _ *Options[string, string]) { so.Timeout = 200 * time.Millisecond })
	p.set(t, "k", "v")
	began := time.Now()
	for range 100_000 {
		p.want(t, "k", "v")
	}
	most := uint64(auditBatch * (2 + time.Since(began)/auditPause))
	if a := p.audits(); a.Checked > most || a.Skipped < 90_000-most {
		t.Errorf("after %v: %+v", time.Since(began), a)
	}
	eventually(t, "the queue is empty", func() bool { return len(p.audit.queue) == 0 })
	s.Close()
	before := p.audits()
	eventually(t, "hits are skipped while Redis is away", func() bool {
		p.want(t, "k", "v")
		return p.audits().Skipped > before.Skipped+auditQueue
	})
	if a := p.audits(); a.Stale(0) > 0 || a.Checked > before.Checked+auditBatch {
		t.Errorf("%+v, then %+v", before, a)
	}
	within(t, 5*time.Second, "Close", func() { p.store.Close() })
}

func TestWithoutAuditAHitIsAsShortAsEver(t *testing.T) {
	s := redistest.Embedded(t)
	off, on := join(t, s, invalidate.PubSub), join(t, s, invalidate.Off, audited)
	if off.audit != nil || off.plain == nil || len(off.flights.Events("k")) > 0 || off.Offenders() != nil {
		t.Error("a cache without Audit pays for it")
	}
	if on.plain != nil || on.Acked().plain != nil {
		t.Error("a view's hits are not audited")
	}
	for name, p := range map[string]process{"off": off, "on": on} {
		p.set(t, "k", "v")
		on.audit.share = 1 << 40 // one in 8,192: what the auditor allocates is not the hit's
		if n := testing.AllocsPerRun(1000, func() { p.Get(ctx, "k") }); n > 0 {
			t.Errorf("%s: %v allocations a hit", name, n)
		}
	}
}

func TestAuditOptionIsChecked(t *testing.T) {
	st := openStore(t, redistest.Embedded(t), invalidate.Off)
	for _, o := range []Options[string, string]{{Audit: -0.1}, {Audit: 1.1}, {Audit: math.NaN()}, {Audit: math.Inf(1)}, {Audit: 0.5, NoLocal: true}} {
		if _, err := New(st, "n", o); !errors.Is(err, ErrOption) || !strings.Contains(err.Error(), "Audit is ") {
			t.Errorf("Audit %v, NoLocal %t: %v", o.Audit, o.NoLocal, err)
		}
	}
}

func TestOtherSpellingsOfAValueAreTheSame(t *testing.T) {
	type user struct{ Name string }
	st := openStore(t, redistest.Embedded(t), invalidate.Off)
	c := newOn(t, st, "n", Options[string, *user]{Audit: 1, NegativeTTL: time.Hour})
	if err := c.Set(ctx, "k", &user{"Ada"}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(ctx, "none"); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		key, data     string
		missing, same bool
	}{
		{"k", `{"Name":"Ada"}`, false, true},
		{"k", `{ "Name" : "Ada" }`, false, true},
		{"k", `{"Name":"Eve"}`, false, false},
		{"k", `no JSON`, false, false},
		{"k", ``, true, false},
		{"none", ``, true, true},
		{"none", `{"Name":"Ada"}`, false, false},
	} {
		if same, err := c.sameAs(c.flights.Hit(tt.key), tt.data, tt.missing); err != nil || same != tt.same {
			t.Errorf("%s, %q, missing %t: %t, %v", tt.key, tt.data, tt.missing, same, err)
		}
	}
}

func TestNinesAreThoseOfTheShare(t *testing.T) {
	a := AuditStats{Checked: 1_000_000, Under1s: 90, Under5s: 9, Over60s: 1}
	for age, want := range map[time.Duration]float64{-1: 4, 0: 4, 999 * time.Millisecond: 4, time.Second: 5, 5 * time.Second: 5.5229, time.Hour: 5.5229} {
		if got := a.Nines(age); math.Abs(got-want) > 0.0001 {
			t.Errorf("within %v: %v, want %v", age, got, want)
		}
	}
	if n := a.Stale(2 * time.Second); n != 10 {
		t.Errorf("%d stale for 2s", n)
	}
	for _, none := range []AuditStats{{}, {Checked: 3}, {Checked: 100, Over60s: 100}} {
		if n := none.Nines(0); n != 0 {
			t.Errorf("%+v: %v nines", none, n)
		}
	}
}
