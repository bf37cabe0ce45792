package hybrid

import (
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/flipcache/flipcache/internal/redisserver"
	"github.com/flipcache/flipcache/internal/redistest"
	"github.com/flipcache/flipcache/internal/tier"
	"github.com/flipcache/flipcache/invalidate"
)

// migrate moves the one key of a slot, which goes on being the old master's.
func migrate(t testing.TB, from, to *redisserver.Server, key string) {
	t.Helper()
	host, port, err := net.SplitHostPort(to.Addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := from.Do("MIGRATE", host, port, key, "0", "5000"); err != nil {
		t.Fatal(err)
	}
}

// In a cluster each entry is compared with what its own master holds, wherever that is
// just then. What nobody was told of is found there.
func TestAuditInAClusterAsksTheMasterOfEachKey(t *testing.T) {
	t.Parallel()
	s := redistest.Cluster(t)
	admin := redistest.Client(t, s)
	st := openStore(t, s, invalidate.PubSub)
	advance := manualClock(st)
	p := process{newOn(t, st, "n", Options[string, string]{Audit: 1}), st}
	a := newAuditor(p.Cache, 1)
	masters := s.Nodes[:3]
	var keys []string
	var entries []*tier.Entry[string, string]
	for i, m := range masters {
		keys = append(keys, keyOf(t, s, m, i))
		p.set(t, keys[i], "v")
		entries = append(entries, p.flights.Hit(keys[i]))
	}
	var checked uint64
	check := func(what string, judged int, stale uint64) {
		t.Helper()
		var batch []probe[string, string]
		for _, e := range entries {
			batch = append(batch, probe[string, string]{entry: e})
		}
		a.check(ctx, batch)
		checked += uint64(judged)
		if got := a.counters.stats(); got.Checked != checked || got.Stale(0) != stale || got.Skipped > 0 {
			t.Errorf("%s: %+v, want %d checked and %d stale", what, got, checked, stale)
		}
	}
	for _, m := range masters {
		if _, err := m.Do("CONFIG", "RESETSTAT"); err != nil {
			t.Fatal(err)
		}
	}
	check("as it was", len(keys), 0)
	for _, m := range masters {
		if n := calls(t, m, "get"); n != 1 {
			t.Errorf("%s was asked for %d keys, want one", m.Addr, n)
		}
	}
	for _, k := range keys {
		from, to := s.Owner(slotOf(k)), elsewhere(t, s, slotOf(k))
		if err := errors.Join(s.AwaitReady(), s.BeginMove(slotOf(k), to)); err != nil {
			t.Fatal(err)
		}
		check(k+" is about to move", len(keys), 0)
		migrate(t, from, to, "n:"+k)
		check(k+" has gone ahead of its slot", len(keys), 0)
		if err := s.AssignSlot(slotOf(k), to); err != nil {
			t.Fatal(err)
		}
		check(k+" has moved", len(keys), 0)
	}
	if len(a.suspects) > 0 {
		t.Errorf("nothing was replaced, and %d entries are under suspicion", len(a.suspects))
	}
	redistest.Do(t, admin, "SET", "n:"+keys[0], "new") // nobody is told
	redistest.Do(t, admin, "DEL", "n:"+keys[2])
	check("replaced, and perhaps under way", 1, 0)
	advance(auditGrace)
	check("replaced", len(keys), 2)
	var found []string
	for _, o := range a.found {
		found = append(found, o.Key)
	}
	if want := []string{keys[0], keys[2]}; !slices.Equal(found, want) {
		t.Errorf("found %q, want %q", found, want)
	}
}

// A slot moves, and its key is written where nobody was told of: that is a cut, and what
// was held before is served no more.
func TestAuditCountsNothingWhenASlotMoves(t *testing.T) {
	t.Parallel()
	s := redistest.Cluster(t)
	admin := redistest.Client(t, s)
	st := openStore(t, s, invalidate.Tracking, func(o *StoreOptions) { o.MaxStaleness = clusterLease })
	st.auditGrace = clusterLease
	p := process{newOn(t, st, "n", Options[string, string]{Audit: 1}), st}
	for i := range 3 {
		k := key(i)
		redistest.Do(t, admin, "SET", "n:"+k, "old")
		holds(t, p, k, "old")
		cuts := st.State().Cuts
		if err := move(t, s, k); err != nil {
			t.Fatal(err)
		}
		redistest.Do(t, admin, "SET", "n:"+k, "new")
		checked := p.audits().Checked
		for began := time.Now(); time.Since(began) < 2*clusterLease; time.Sleep(100 * time.Microsecond) {
			p.Get(ctx, k)
		}
		p.awaitStatus(t, invalidate.Live)
		if st.State().Cuts == cuts || p.audits().Checked == checked {
			t.Errorf("%d cuts, and %d hits were checked: the test proves nothing", st.State().Cuts-cuts, p.audits().Checked-checked)
		}
		holds(t, p, k, "new")
	}
	if got := p.audits(); got.Stale(0) > 0 {
		t.Errorf("%+v, %+v", got, p.Offenders())
	}
}
