package invalidate

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flipcache/flipcache/internal/redisserver"
	"github.com/flipcache/flipcache/internal/redistest"
	"github.com/flipcache/flipcache/internal/slots"
)

func mustDo(t testing.TB, s *redisserver.Server, command ...string) string {
	t.Helper()
	m, err := s.Do(command...)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := m.ToString()
	return text
}

// H17: as long as the masters do not agree on who serves a slot, nothing is served
// locally.
func TestH17_MastersThatDisagreeAreACutUntilTheyAgree(t *testing.T) {
	t.Parallel()
	s := redistest.Masters(t, 2)
	st := listen(t, s, probing(50*time.Millisecond), func(c *Config) { c.Mode = Tracking })
	r := joined(t, st, "n")
	const slot = 1 // of no key
	from, to := s.Owner(slot), s.Owner(slots.Count-1)
	// The one gives it away, and the other does not know.
	mustDo(t, from, "CLUSTER", "SETSLOT", fmt.Sprint(slot), "NODE", mustDo(t, to, "CLUSTER", "MYID"))
	eventually(t, "the cause is that they disagree", func() bool {
		got := st.State()
		return got.Cause != nil && strings.Contains(got.Cause.Error(), "do not agree")
	})
	if other, err := tryListen(s, func(c *Config) { c.Mode = Tracking }); err == nil || !strings.Contains(err.Error(), "do not agree") {
		t.Errorf("Open: %v", err)
		if err == nil {
			other.Close()
		}
	}
	if n := r.count("resume", ""); n != 1 || r.isLive() {
		t.Errorf("they disagree, and the tier was resumed %d times, live: %t", n, r.isLive())
	}
	if err := s.AssignSlot(slot, to); err != nil {
		t.Fatal(err)
	}
	awaitCuts(t, st, 1)
	eventually(t, "the tier is live", r.isLive)
}

// H17: a master that does not say how it sees the cluster has not answered.
func TestH17_MasterThatKeepsItsViewToItselfIsACut(t *testing.T) {
	t.Parallel()
	s := redistest.Masters(t, 2)
	for _, n := range s.Nodes {
		mustDo(t, n, "ACL", "SETUSER", "u", "on", ">p", "~*", "&*", "+@all")
	}
	st := listen(t, s, probing(50*time.Millisecond), func(c *Config) {
		c.Mode, c.Client.Username, c.Client.Password = Tracking, "u", "p"
	})
	r := joined(t, st, "n")
	saw := causes(st)
	last := s.Nodes[len(s.Nodes)-1]
	mustDo(t, last, "ACL", "SETUSER", "u", "-cluster|nodes")
	eventually(t, "a cut by a probe", func() bool { return saw(last.Addr + ": CLUSTER NODES: NOPERM") })
	eventually(t, "no session begins", func() bool { return saw("did not answer: CLUSTER NODES at " + last.Addr + ": NOPERM") })
	if n := r.count("resume", ""); n != 1 {
		t.Errorf("the tier was resumed %d times", n)
	}
	mustDo(t, last, "ACL", "SETUSER", "u", "+cluster|nodes")
	awaitCuts(t, st, 1)
	eventually(t, "the tier is live", r.isLive)
}

// H13: a master whose connection is silent gets another one, long before rueidis would
// see to it; the others keep theirs.
func TestH13_SilentConnectionToOneMasterIsReplaced(t *testing.T) {
	t.Parallel()
	s := redistest.Masters(t, 2)
	var l link
	st := listen(t, s, by(&l), probing(100*time.Millisecond), func(c *Config) { c.Mode, c.Timeout = Tracking, 300*time.Millisecond })
	r := joined(t, st, "n")
	ear := st.ear.(*tracking)
	silent, well := s.Owner(slots.Of(membersPrefix+"n")).Addr, s.Nodes[0].Addr // by the one that has the list, too, no probe is answered
	if silent == well {
		well = s.Nodes[1].Addr
	}
	old, other := ear.connTo(silent), ear.connTo(well)
	l.mu.Lock()
	var conn *linkConn
	for c := range l.conns {
		if c.RemoteAddr().String() == silent {
			conn = c
		}
	}
	l.mu.Unlock()
	conn.hold() // for good
	began := time.Now()
	awaitCuts(t, st, 1)
	if took := time.Since(began); took > streamKeepAlive+streamWriteTimeout {
		t.Errorf("live again after %v", took)
	}
	if ear.connTo(silent) == old || ear.connTo(well) != other {
		t.Error("the silent connection is there still, or the other one is not")
	}
	eventually(t, "the tier is live", r.isLive)
}

// PubSub in a cluster: EXISTS, which brings a session to a master, has to be answered;
// that it is refused is no harm.
func TestPubSubInAClusterNeedsAMasterAndNoRightToItsKeys(t *testing.T) {
	t.Parallel()
	s := redistest.Masters(t, 1)
	admin := redistest.Client(t, s)
	var l link
	st := listen(t, s, by(&l), probing(time.Hour))
	r := joined(t, st, "n")
	saw := causes(st)
	l.onceAt(fmt.Sprintf("%s{%v ", processPrefix, st.Sender()), func(c *linkConn) { c.Conn.Close() })
	l.closeNewest()
	eventually(t, "the cause is that nobody answers", func() bool { return saw("EXISTS: ") })
	awaitCuts(t, st, 1)
	heard(t, admin, "n", r)

	mustDo(t, s.Nodes[0], "ACL", "SETUSER", "u", "on", ">p", "~*", "&*", "+@all", "-exists")
	without := listen(t, s, func(c *Config) { c.Client.Username, c.Client.Password = "u", "p" })
	heard(t, admin, "m", joined(t, without, "m"))
	if got := without.State(); got.Status != Live || got.Cuts != 0 {
		t.Errorf("%+v", got)
	}
}

// subscriptions returns how many connections listen to each channel of a master.
func subscriptions(t *testing.T, s *redisserver.Server) map[string]int64 {
	t.Helper()
	m, err := s.Do("PUBSUB", "CHANNELS", "flipcache:*")
	if err != nil {
		t.Fatal(err)
	}
	channels, _ := m.AsStrSlice()
	if m, err = s.Do(append([]string{"PUBSUB", "NUMSUB"}, channels...)...); err != nil {
		t.Fatal(err)
	}
	n, err := m.AsIntMap()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// H6, H17: sessions come and go, under one table of slots after the other and under the
// same again, and connections stay: nothing is left of earlier ones, neither on the
// servers nor here.
func TestH17_NothingIsLeftOfEarlierSessions(t *testing.T) {
	s := redistest.Masters(t, 3)
	var l link
	st := listen(t, s, by(&l), trackingFor(time.Second))
	names := []string{"n", "m"}
	for _, name := range names {
		joined(t, st, name)
	}
	c := st.inCluster()
	clean := func() bool {
		c.mu.Lock()
		table, masters := c.view.Table, c.masters
		c.mu.Unlock()
		for _, m := range masters {
			home := homeOf(table, m.id)
			want := map[string]int64{answerChannel(home, st.sender): 1}
			for _, name := range names {
				want[askChannel(home, name)] = 1
			}
			i := slices.IndexFunc(s.Nodes, func(n *redisserver.Server) bool { return n.Addr == m.addr })
			if got := subscriptions(t, s.Nodes[i]); !maps.Equal(got, want) {
				return false
			}
		}
		return len(masters) == len(s.Nodes)
	}
	eventually(t, "each question has one listener", clean)
	var cuts uint64
	next := func(what string) {
		t.Helper()
		cuts++
		awaitCuts(t, st, cuts)
		eventually(t, what+": each question has one listener", clean)
	}
	for i := range 4 {
		if err := s.AwaitReady(); err != nil {
			t.Fatal(err)
		}
		if err := s.MoveSlot(uint16(i*100), s.Owner(uint16((i%2+1)*slots.Count/3+1))); err != nil {
			t.Fatal(err)
		}
		next("a slot has moved")
	}
	steady(t, &l, func() {
		for i := range 12 {
			st.ear.(*tracking).closeConn(s.Nodes[i%len(s.Nodes)].Addr)
			next("one connection of several was lost")
		}
	})
}
