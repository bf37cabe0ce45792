package invalidate

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/internal/redisserver"
	"github.com/flipcache/flipcache/internal/redistest"
)

func TestMessagesReachTheTierInTheOrderOfRedis(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		st := listen(t, s)
		r := joined(t, st, "n")
		own, _ := AppendKeys(nil, st.Sender(), 7, []string{"a", "b"})
		publish(t, admin, "n", own)
		publish(t, admin, "n", keys(7, "a"))
		publish(t, admin, "n", AppendAll(nil, Sender{}))
		publish(t, admin, "n", AppendAll(nil, st.Sender()))
		publish(t, admin, "n", keys(math.MaxUint64, "", "\xff\x00"))
		heard(t, admin, "n", r)
		got := r.all()
		want := []event{
			{What: "resume"},
			{"drop", "a", 7, true},
			{"drop", "b", 8, true},
			{"drop", "a", 7, false},
			{What: "all"},
			{What: "all"},
			{"drop", "", math.MaxUint64, false},
			{"drop", "\xff\x00", 0, false},
		}
		if !reflect.DeepEqual(got[:len(got)-1], want) {
			t.Errorf("got  %v\nwant %v", got, want)
		}
	})
}

func TestAMessageReachesOnlyTheTierOfItsChannel(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		st := listen(t, s)
		names := []string{"a", "a:b", "A", "", "*", "?", "a\x00b", "\xff", strings.Repeat("n", 512)}
		tiers := make([]*recorder, len(names))
		for i, n := range names {
			tiers[i] = joined(t, st, n)
		}
		for i, n := range names {
			publish(t, admin, n, keys(1, fmt.Sprint(i)))
		}
		for i, n := range names {
			heard(t, admin, n, tiers[i])
			for j := range names {
				if got := tiers[i].count("drop", fmt.Sprint(j)); (got == 1) != (i == j) {
					t.Errorf("the tier of %q heard the message to %q %d times", n, names[j], got)
				}
			}
		}
	})
}

func TestMessagesOfUnknownChannelsAreIgnored(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		st := listen(t, s)
		r := joined(t, st, "n")
		st.mu.Lock()
		session := st.session
		st.mu.Unlock()
		for _, ch := range []string{"", "n", Channel("other"), Channel("n") + "\x00"} {
			st.ear.(*pubsub).onMessage(session, rueidis.PubSubMessage{Channel: ch, Message: "\x02"})
		}
		if got := st.Rejected(); got != 0 {
			t.Errorf("%d messages to nobody are counted", got)
		}
		if got := r.all(); len(got) != 1 {
			t.Errorf("the tier heard %v", got)
		}
	})
}

func TestH19_MalformedAndFutureMessagesAreCountedAndDropEverything(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		st := listen(t, s)
		r, other := joined(t, st, "n"), joined(t, st, "other")
		sent := 0
		for name, m := range malformed() {
			publish(t, admin, "n", []byte(m))
			sent++
			heard(t, admin, "n", r)
			if got := r.count("all", ""); got != sent {
				t.Fatalf("%s: the tier was emptied %d times, want %d", name, got, sent)
			}
			if got := st.Rejected(); got != uint64(sent) {
				t.Fatalf("%s: Rejected is %d, want %d", name, got, sent)
			}
		}
		if got := other.all(); len(got) != 1 {
			t.Errorf("the other cache heard %v", got)
		}
		for _, e := range r.all() {
			if e.What == "drop" && !strings.HasPrefix(e.Key, "mark") {
				t.Errorf("a malformed message took effect in part: %v", e)
			}
		}
		if got := st.State(); got.Status != Live || got.Cuts != 0 {
			t.Errorf("the stream suffered: %+v", got)
		}
	})
}

// Anybody who may publish can write on the probes' channel, too.
func TestForeignNewsOnTheProbesChannelHarmsNoTier(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		st := listen(t, s)
		r := joined(t, st, "n")
		for _, m := range malformed() {
			redistest.Do(t, admin, "PUBLISH", st.ear.(*pubsub).self, m)
		}
		heard(t, admin, "n", r)
		if got := r.all(); len(got) != 2 || st.Rejected() != 0 {
			t.Errorf("the tier heard %v, %d rejected", got, st.Rejected())
		}
	})
}

func TestNoncesAreNeverTheSameAndNeverZero(t *testing.T) {
	st := listen(t, redistest.Embedded(t))
	seen := make(chan uint64, 64*100*3)
	done := make(chan struct{})
	for range 64 {
		go func() {
			defer func() { done <- struct{}{} }()
			for range 100 {
				first := st.Nonces(3)
				for i := range uint64(3) {
					seen <- first + i
				}
			}
		}()
	}
	for range 64 {
		<-done
	}
	close(seen)
	known := make(map[uint64]bool)
	for n := range seen {
		if n == 0 || known[n] {
			t.Fatalf("nonce %d was given twice, or means none", n)
		}
		known[n] = true
	}
}

func TestSendersDiffer(t *testing.T) {
	s := redistest.Embedded(t)
	a, b := listen(t, s), listen(t, s)
	if a.Sender() == b.Sender() || a.Sender() == (Sender{}) || a.ear.(*pubsub).self == b.ear.(*pubsub).self {
		t.Errorf("two processes are %x and %x", a.Sender(), b.Sender())
	}
}
