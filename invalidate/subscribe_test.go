package invalidate

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/flipcache/flipcache/internal/clock"
	"github.com/flipcache/flipcache/internal/redisserver"
	"github.com/flipcache/flipcache/internal/redistest"
)

// Tracking with a lease: what is heard of questions beside the invalidations.

func trackingFor(lease time.Duration) func(*Config) {
	return func(c *Config) {
		leased(lease)(c)
		c.Mode, c.Dialed = Tracking, new(atomic.Int64)
	}
}

// confirms has st wait, as if its connection were old, for those who listen to n, and
// returns how long that took, and who has not confirmed within limit.
func confirms(t *testing.T, st *Stream, limit time.Duration) (took time.Duration, missing []Member) {
	t.Helper()
	st.cfg.Dialed.Store(clock.Now() - int64(2*MaxMaxStaleness))
	short, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	began := time.Now()
	err := st.Confirm(short, st.Tracked(), "n")
	var u *Unconfirmed
	if err != nil && !errors.As(err, &u) {
		t.Fatal(err)
	}
	if u != nil {
		missing = u.Members
	}
	return time.Since(began), missing
}

// causes notes why st was not live.
func causes(st *Stream) (saw func(part string) bool) {
	all := make(chan error, 1000)
	st.OnState(func(s State) {
		if s.Status == Cut {
			all <- s.Cause
		}
	})
	seen := ""
	return func(part string) bool {
		for len(all) > 0 {
			seen += (<-all).Error() + "\n"
		}
		return strings.Contains(seen, part)
	}
}

// Who may not subscribe serves all the same, and says so; acknowledged writes wait for
// its lease.
func TestWhoMayNotHearQuestionsWarnsAndIsWaitedFor(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	core, logs := observer.New(zap.WarnLevel)
	const lease = 400 * time.Millisecond
	for _, logger := range []*zap.Logger{zap.New(core), nil} {
		deaf := listen(t, s, trackingFor(lease), user(t, admin, "~*", "&*", "+@all", "-subscribe"), func(c *Config) { c.Logger = logger })
		w := listen(t, s, trackingFor(lease))
		joined(t, w, "n")
		if _, missing := confirms(t, w, 10*time.Second); len(missing) > 0 {
			t.Fatalf("%v, before anybody else listens", missing)
		}
		r := joined(t, deaf, "n")
		if took, missing := confirms(t, w, 10*time.Second); took < lease || len(missing) > 0 {
			t.Errorf("it waited for %v, and then for %v: who cannot answer has a lease of %v", took, missing, lease)
		}
		redistest.Do(t, admin, "SET", "n:k", "v")
		if got := deaf.State(); got.Status != Live || got.Cuts != 0 || !r.isLive() {
			t.Errorf("%+v, live %t", got, r.isLive())
		}
		deaf.Close()
		w.Close()
	}
	lines := logs.All()
	if len(lines) != 2 { // of its session, and of its cache
		t.Errorf("%d warnings, want 2", len(lines))
	}
	for _, l := range lines {
		if cause, _ := l.ContextMap()["error"].(string); !strings.Contains(cause, "NOPERM") {
			t.Errorf("%q, %v: want the right that is missing", l.Message, l.ContextMap())
		}
	}
}

// Whether questions are heard is not known where the subscription is not answered: the
// stream is not live, and says why.
func TestH8_SessionIsNotLiveBeforeQuestionsAreHeard(t *testing.T) {
	for want, wait := range map[string]bool{"SUBSCRIBE: connection lost": false, "SUBSCRIBE: no answer within": true} {
		t.Run(want, func(t *testing.T) {
			s := redistest.Real(t)
			var l link
			st := listen(t, s, by(&l), trackingFor(MaxMaxStaleness), func(c *Config) { c.Timeout = 300 * time.Millisecond })
			r := joined(t, st, "n")
			saw := causes(st)
			held := make(chan func(), 1)
			l.onceAt("SUBSCRIBE", func(c *linkConn) {
				if wait {
					held <- c.hold()
				} else {
					c.Conn.Close()
				}
			})
			l.closeNewest()
			eventually(t, want, func() bool { return saw(want) })
			if wait {
				if n := r.count("resume", ""); n != 1 {
					t.Errorf("the tier was resumed %d times, and no question is heard", n)
				}
				(<-held)()
			}
			awaitCuts(t, st, 1)
			answers(t, s, st)
		})
	}
}

// answers checks that st answers to questions, long before its lease is over.
func answers(t *testing.T, s *redisserver.Server, st *Stream) {
	t.Helper()
	w := listen(t, s, trackingFor(MaxMaxStaleness))
	joined(t, w, "n")
	if _, missing := confirms(t, w, MaxMaxStaleness/2); len(missing) > 0 {
		t.Errorf("%v did not answer", missing)
	}
	w.Close()
}

// A cache joins, and the connection dies by which its questions are to be heard: it is
// heard by the next one.
func TestJoinThatIsCutOffGoesLiveLater(t *testing.T) {
	s := redistest.Real(t)
	var l link
	st := listen(t, s, by(&l), trackingFor(MaxMaxStaleness))
	l.onceAt(askPrefix+"n", func(c *linkConn) { c.Conn.Close() })
	r := new(recorder)
	if err := st.Join(ctx, "n", r); err != nil {
		t.Fatal(err)
	}
	awaitCuts(t, st, 1)
	eventually(t, "the tier is live", r.isLive)
	answers(t, s, st)
	r.inTurn(t)
}

// A cache joins, and its subscription is answered too late, by a connection that is
// there still.
func TestJoinThatIsAnsweredTooLateGoesLiveLater(t *testing.T) {
	s := redistest.Real(t)
	var l link
	st := listen(t, s, by(&l), trackingFor(MaxMaxStaleness), func(c *Config) { c.Timeout = 300 * time.Millisecond })
	l.onceAt(askPrefix+"n", func(c *linkConn) {
		release := c.hold()
		l.onceAt("EVALSHA", func(*linkConn) { release() }) // of who has waited in vain
	})
	r := new(recorder)
	if err := st.Join(ctx, "n", r); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the tier is live", r.isLive)
	answers(t, s, st)
	r.inTurn(t)
}
