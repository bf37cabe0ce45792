package invalidate

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/internal/clock"
	"github.com/flipcache/flipcache/internal/redistest"
)

func TestServerThatWasAlwaysMasterLacksNobody(t *testing.T) {
	const good = "# Server\r\nuptime_in_seconds:13\r\n# Replication\r\nrole:master\r\nmaster_replid2:0000000000000000000000000000000000000000\r\n"
	if !firstOfItsKind(good) {
		t.Error("a master since its start, longer ago than any lease")
	}
	for name, info := range map[string]string{
		"nothing":             "",
		"was promoted":        strings.Replace(good, "replid2:0", "replid2:a", 1),
		"a replica":           strings.Replace(good, "role:master", "role:slave", 1),
		"just started":        strings.Replace(good, ":13", ":12", 1),
		"no uptime":           strings.Replace(good, "uptime", "downtime", 1),
		"an uptime of no age": strings.Replace(good, ":13", ":old", 1),
	} {
		if firstOfItsKind(info) {
			t.Errorf("%s: taken for one that lacks nobody", name)
		}
	}
}

// A server that has just started may be one that was restarted, and a connection
// that was just made may be one to a replica that was promoted: who has a lease of
// before is not known.
func TestH16_YoungConnectionToAYoungServerWaitsForTheFloor(t *testing.T) {
	s := redistest.Real(t)
	dialed := new(atomic.Int64)
	dialed.Store(clock.Now())
	st := listen(t, s, func(c *Config) {
		c.MaxStaleness, c.Lease, c.Dialed = time.Second, new(atomic.Int64), dialed
	})
	client := redistest.Client(t, s)
	short, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	err := st.Confirm(short, client, "n")
	var u *Unconfirmed
	if !errors.As(err, &u) || len(u.Members) != 1 || u.Members[0].ID != "" {
		t.Errorf("young: %v", err)
	}
	dialed.Store(clock.Now() - int64(2*MaxMaxStaleness))
	if err := st.Confirm(context.Background(), client, "n"); err != nil {
		t.Errorf("old: %v", err)
	}
}

// FLUSHALL, or an eviction, takes the list of those who listen, and who has a lease is
// not known until all have put themselves in again.
func TestListThatRedisHasLostLacksOthers(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	dialed := new(atomic.Int64)
	dialed.Store(clock.Now() - int64(2*MaxMaxStaleness))
	old := func(c *Config) { c.MaxStaleness, c.Lease, c.Dialed = time.Second, new(atomic.Int64), dialed }
	st, other := listen(t, s, old), listen(t, s, old)
	for _, st := range []*Stream{st, other} {
		if err := st.Join(t.Context(), "n", &recorder{}); err != nil {
			t.Fatal(err)
		}
	}
	confirm := func() (unknown bool) {
		t.Helper()
		short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		err := st.Confirm(short, admin, "n")
		var u *Unconfirmed
		if err == nil {
			return false
		}
		if !errors.As(err, &u) || !slices.ContainsFunc(u.Members, func(m Member) bool { return m.ID == "" }) {
			t.Fatal(err)
		}
		return true
	}
	if confirm() {
		t.Error("all are listed, and not known")
	}
	redistest.Do(t, admin, "FLUSHALL")
	if !confirm() {
		t.Error("the list is lost, and nobody is waited for")
	}
	eventually(t, "somebody is listed again", func() bool {
		m, err := st.Members(t.Context(), "n")
		return err == nil && len(m) > 0
	})
	redistest.Do(t, admin, "ZREM", membersPrefix+"n", other.member())
	if !confirm() {
		t.Error("the list was lost a moment ago, and nobody is waited for")
	}
}

// The write went by one connection, and who listens is read by another, which was made
// since, perhaps to a server that was promoted since.
func TestH16_ConnectionMadeForTheListWaitsForTheFloor(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	dialed := new(atomic.Int64)
	o := s.ClientOption()
	o.DialCtxFn = func(ctx context.Context, addr string, d *net.Dialer, _ *tls.Config) (net.Conn, error) {
		dialed.Store(clock.Now())
		return d.DialContext(ctx, "tcp", addr)
	}
	client, err := rueidis.NewClient(o)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	st := listen(t, s, func(c *Config) {
		c.MaxStaleness, c.Lease, c.Dialed = time.Second, new(atomic.Int64), dialed
	})
	for range 100 {
		id, err := client.Do(t.Context(), client.B().ClientId().Build()).AsInt64()
		if err != nil {
			t.Fatal(err)
		}
		redistest.Do(t, admin, "CLIENT", "KILL", "ID", strconv.FormatInt(id, 10))
		old := clock.Now() - int64(2*MaxMaxStaleness)
		dialed.Store(old)
		short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		err = st.Confirm(short, client, "n")
		cancel()
		var u *Unconfirmed
		switch {
		case dialed.Load() == old, errors.As(err, &u) && len(u.Members) == 0:
			continue // the connection was not known to be dead yet
		case err == nil || len(u.Members) != 1 || u.Members[0].ID != "":
			t.Errorf("another connection: %v", err)
		}
		return
	}
	t.Error("the killed connection was never replaced: the test proves nothing")
}

// await, in time.
func TestEachIsWaitedForUntilItHasAnsweredOrItsLeaseIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStream(Config{Mode: PubSub})
		s.ctx, s.cancel = context.WithCancel(context.Background())
		defer s.cancel()
		a, b, c := Sender{1}, Sender{2}, Sender{3}
		wait := func(answers func()) (took time.Duration, err error) {
			q := &question{ids: []uint64{7}, heard: make(map[confirmation]bool), changed: make(chan struct{}, 1)}
			s.acks.open[7] = q
			q.waiting = map[string]Member{a.String(): {Where: "a"}, b.String(): {Where: "b"}}
			q.until = map[string]int64{a.String(): clock.Now() + patienceFor(time.Second), b.String(): clock.Now() + patienceFor(2*time.Second)}
			go answers()
			began := time.Now()
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			err = s.await(ctx, q)
			return time.Since(began), err
		}
		for name, test := range map[string]struct {
			answers func()
			want    time.Duration
		}{
			"both answer": {func() {
				time.Sleep(10 * time.Millisecond)
				s.hearAnswer(a, 7)
				time.Sleep(10 * time.Millisecond)
				s.hearAnswer(b, 7)
			}, 20 * time.Millisecond},
			"nobody answers":                 {func() {}, time.Duration(patienceFor(2 * time.Second))},
			"the one of the longer lease":    {func() { s.hearAnswer(b, 7) }, time.Duration(patienceFor(time.Second))},
			"answers to another question":    {func() { s.hearAnswer(a, 6); s.hearAnswer(b, 8) }, time.Duration(patienceFor(2 * time.Second))},
			"answers of another, and of one": {func() { s.hearAnswer(c, 7); s.hearAnswer(a, 7) }, time.Duration(patienceFor(2 * time.Second))},
		} {
			if took, err := wait(test.answers); took != test.want || err != nil {
				t.Errorf("%s: it took %v, %v, want %v", name, took, err, test.want)
			}
		}
		time.AfterFunc(time.Millisecond, s.cancel)
		if _, err := wait(func() {}); !errors.Is(err, ErrClosed) {
			t.Errorf("a stream that is closed: %v", err)
		}
	})
}

func TestOwedAnswersAreBounded(t *testing.T) {
	s := &Stream{}
	s.acks.owed = make(chan answer, 2)
	s.acks.start.Do(func() {}) // nobody sends them
	for id := range uint64(5) {
		s.hearQuestion(Sender{1}, id, nil, "c")
	}
	s.hearQuestion(s.sender, 9, nil, "c")
	if n := len(s.acks.owed); n != 2 {
		t.Errorf("%d are owed, want 2", n)
	}
}

// Where it cannot be read who listens, nobody knows who has heard.
func TestListThatCannotBeReadConfirmsNothing(t *testing.T) {
	one := redistest.Real(t)
	for name, s := range map[string]redistest.Server{"one server": one, "a cluster": redistest.Masters(t, 1)} {
		redistest.Do(t, redistest.Client(t, s), "SET", membersPrefix+"odd", "no list")
		st := listen(t, s, trackingFor(time.Second))
		short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		defer cancel()
		err := st.Confirm(short, st.Tracked(), "odd")
		var u *Unconfirmed
		if !errors.As(err, &u) || len(u.Members) > 0 || !strings.Contains(err.Error(), "not known") || !strings.Contains(err.Error(), "WRONGTYPE") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
