//go:build unix

package main

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/flipcache/flipcache/benchmarks/peers"
	"github.com/flipcache/flipcache/hybrid"
	"github.com/flipcache/flipcache/internal/fleet"
	"github.com/flipcache/flipcache/internal/redistest"
)

// The test binary is a worker where it is started as one.
func TestMain(m *testing.M) {
	if fleet.IsWorker() {
		main()
		return
	}
	// rueidis looks for a cluster behind an address, at most once a second.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*call).DelayDo.func1"),
		// A package that jetcache-go imports logs by glog.
		goleak.IgnoreAnyFunction("github.com/golang/glog.(*loggingT).flushDaemon"))
}

func testPlan() plan {
	return plan{duration: 600 * time.Millisecond, fast: 200 * time.Millisecond, faults: 8 * time.Second, seed: 3,
		workers: 3, keys: 60, reads: 2000, writes: 100, localTTL: time.Minute, lease: 300 * time.Millisecond}
}

func TestEverySideIsCoherentIfItHears(t *testing.T) {
	redistest.Real(t)
	p := testPlan()
	var all []side
	for _, s := range p.sides() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			var redis string
			// Where the machine is busy most reads of a short run are the first of their key.
			m, err := p.measure(t.Context(), s, setting{p.duration, p.reads, false}, &redis)
			for long := 2 * p.duration; err == nil && m.hitRate < 0.2 && long <= 8*p.duration; long *= 2 {
				m, err = p.measure(t.Context(), s, setting{long, p.reads, false}, &redis)
			}
			if err != nil {
				t.Fatal(err)
			}
			if m.failed > 0 || m.unreadable > 0 || m.reads == 0 || m.commands <= 0 || !strings.HasPrefix(redis, "redis-server") {
				t.Errorf("%+v, on %q", m, redis)
			}
			if m.hitRate < 0.2 || m.hitRate >= 1 {
				t.Errorf("local hit rate %v", m.hitRate)
			}
			if s.hears == "not at all" {
				if m.rate() < 0.05 || m.left == 0 || m.age.Max() == 0 {
					t.Errorf("stale rate %v, %d entries left: the judge sees nothing", m.rate(), m.left)
				}
				return
			}
			some := 0
			if !s.ours { // a peer may lose a race between a read and a write
				some = p.workers * p.keys / 10
			}
			if m.left > some {
				t.Errorf("%d entries left: is what others write not heard?", m.left)
			}
		})
		all = append(all, s)
	}
	if len(all) != len(measured)+1+5 {
		t.Errorf("%d sides: a peer's name is wrong in measured", len(all))
	}
}

// The same faults make reads stale for longer than the lease where there is none.
func TestFaultsAreOutlastedByTheLeaseAlone(t *testing.T) {
	redistest.Real(t)
	p := testPlan()
	for name, leased := range map[string]bool{"^FlipCache pubsub$": false, "^FlipCache pubsub, lease": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := p
			p.side = regexp.MustCompile(name)
			outlasts := func() bool {
				var redis string
				m, err := p.measure(t.Context(), p.sides()[0], setting{p.faults, p.reads, true}, &redis)
				if err != nil {
					t.Fatal(err)
				}
				worst := time.Duration(m.age.Max()) * time.Microsecond
				t.Logf("worst age %v, the lease would be %v; %d entries left", worst, p.lease, m.left)
				if m.left > 0 {
					t.Error("entries are left")
				}
				return worst > p.lease+5*time.Millisecond
			}
			tries := 3 // what the faults hit is drawn anew in each
			if leased {
				tries = 1
			}
			found := false
			for ; tries > 0 && !found; tries-- {
				found = outlasts()
			}
			if found == leased {
				t.Errorf("a value is read that was replaced for longer than the lease: %t", found)
			}
		})
	}
}

// failing is a cache whose writes fail.
type failing struct {
	peers.TwoTier
	err error
}

func (f failing) Set(context.Context, string, peers.User) error { return f.err }

func TestFailedWriteOfAPeerMayHaveHappened(t *testing.T) {
	broken := errors.New("broken")
	for _, tt := range []struct{ ours, unknown bool }{{false, true}, {true, false}} {
		err := member{side{ours: tt.ours}, failing{err: broken}}.Set(t.Context(), "k", 2)
		if !errors.Is(err, broken) || errors.Is(err, hybrid.ErrOutcomeUnknown) != tt.unknown {
			t.Errorf("ours %t: %v", tt.ours, err)
		}
	}
}

func TestStatsAreOfAllCommandsAndOfReadsOfValues(t *testing.T) {
	got, err := parseStats("# Stats\r\ntotal_commands_processed:120\r\n# Commandstats\r\ncmdstat_get:calls=7,usec=1\r\ncmdstat_mget:calls=3,usec=9\r\ncmdstat_getex:calls=5,usec=9\r\n")
	if want := (stats{commands: 120, gets: 10}); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	for _, bad := range []string{"", "total_commands_processed:x\r\n"} {
		if _, err := parseStats(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestReportHasARowForEachSideWithAndWithoutFaults(t *testing.T) {
	f := figures{plan: testPlan()}
	for _, s := range f.sides() {
		r := row{side: s}
		r.calm = measure{reads: 1000, perSecond: 500, hitRate: 0.5, commands: 0.25, age: newAges()}
		r.fast = measure{perSecond: 123456}
		r.faults = measure{reads: 1000, calls: 2000, stale: 10, perSecond: 400, hitRate: 0.25, commands: 0.5, age: newAges(), left: 1234, failed: 7}
		r.faults.age.RecordValue(2500)
		f.rows = append(f.rows, r)
	}
	text := f.markdown("plot.svg", map[string]string{"github.com/redis/rueidis": "v1.2.3"})
	for _, want := range []string{
		"| rueidis | client tracking | no | 0 | - | 0 | 50 % | 500 (123,456) | 0.25 | 0 |\n",
		"| FlipCache pubsub, lease 300ms | pub/sub | yes | 1 % | 2.5 / 2.5 / 2.5 | 1,234 | 25 % | 400 | 0.5 | 0.35 % |\n",
		"github.com/redis/rueidis v1.2.3,", "cascache", "(plot.svg)",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	picture, err := f.svg()
	if err != nil || !strings.Contains(string(picture), "FlipCache tracking") || !strings.HasPrefix(string(picture), "<?xml") {
		t.Errorf("%v: %.200s", err, picture)
	}
}

func TestFlagsAreCheckedWhole(t *testing.T) {
	if err := testPlan().check(); err != nil {
		t.Error(err)
	}
	err := plan{side: regexp.MustCompile("none")}.check()
	for _, want := range []string{"-duration", "-faults", "-workers", "-side"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
}
