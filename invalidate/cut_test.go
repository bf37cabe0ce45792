package invalidate

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/flipcache/flipcache/internal/redisserver"
	"github.com/flipcache/flipcache/internal/redistest"
)

// steady checks that the stream's connections and the process' goroutines do
// not grow while f runs.
func steady(t *testing.T, l *link, f func()) {
	t.Helper()
	_, open := l.counts()
	goroutines := runtime.NumGoroutine()
	f()
	eventually(t, fmt.Sprintf("at most %d connections, as before", open), func() bool { _, n := l.counts(); return n <= open })
	eventually(t, fmt.Sprintf("at most %d goroutines, as before", goroutines), func() bool { return runtime.NumGoroutine() <= goroutines })
}

func TestH6_ManyKillsLeaveOneSubscriptionAProcess(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	var l link
	a, b := listen(t, s, by(&l)), listen(t, s, by(&l))
	ra, rb := joined(t, a, "n"), joined(t, b, "n")
	const kills = 200
	steady(t, &l, func() {
		for i := range uint64(kills) {
			redistest.Do(t, admin, "CLIENT", "KILL", "TYPE", "pubsub")
			awaitCuts(t, a, i+1)
			awaitCuts(t, b, i+1)
		}
		publish(t, admin, "n", keys(1, "after"))
		heard(t, admin, "n", ra)
		heard(t, admin, "n", rb)
	})
	if got := numSub(t, admin, "n"); got != 2 {
		t.Errorf("%d connections listen, want one a process", got)
	}
	for _, r := range []*recorder{ra, rb} {
		if got := r.count("drop", "after"); got != 1 {
			t.Errorf("one message came %d times", got)
		}
		if cuts, resumes := r.count("cut", ""), r.count("resume", ""); cuts != kills || resumes != kills+1 {
			t.Errorf("%d cuts and %d resumes, want %d and one more", cuts, resumes, kills)
		}
	}
}

func TestH6_AServerThatComesBackIsHeardAgain(t *testing.T) {
	t.Run("redis-server", func(t *testing.T) {
		s := redistest.Real(t, redisserver.AllowDebug()...)
		admin := redistest.Client(t, s)
		comesBack(t, s, func() { admin.Do(ctx, admin.B().Arbitrary("DEBUG", "RESTART").Build()) }, func() {})
	})
	t.Run("miniredis", func(t *testing.T) {
		s := redistest.Embedded(t)
		comesBack(t, s, s.Embedded().Close, func() {
			if err := s.Embedded().Restart(); err != nil {
				t.Fatal(err)
			}
		})
	})
}

func comesBack(t *testing.T, s *redisserver.Server, stop, start func()) {
	st := listen(t, s, probing(50*time.Millisecond))
	r := joined(t, st, "n")
	stop()
	eventually(t, "a cut", func() bool { return st.State().Cuts == 1 })
	start()
	await(t, st, Live)
	heard(t, redistest.Client(t, s), "n", r)
}

func TestH6_AServerThatStaysAwayIsAskedEverMoreSeldom(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		var l link
		st := listen(t, s, by(&l))
		r := joined(t, st, "n")
		s.Close()
		await(t, st, Cut)
		if r.isLive() {
			t.Error("the stream is cut and the tier is live")
		}
		eventually(t, "the cause is that of the last attempt", func() bool {
			c := st.State().Cause
			return errors.Is(c, syscall.ECONNREFUSED)
		})
		since := st.State().Since
		before, _ := l.counts()
		steady(t, &l, func() { time.Sleep(time.Second) })
		// 10, 20, .. 1280 ms and at least half of each: at most eight attempts.
		if after, _ := l.counts(); after-before > 10 || after == before {
			t.Errorf("%d attempts in a second", after-before)
		}
		if got := st.State(); got.Status != Cut || got.Cuts != 1 || !got.Since.Equal(since) {
			t.Errorf("%+v, since %v", got, since)
		}
		began := time.Now()
		st.Close()
		if took := time.Since(began); took > time.Second {
			t.Errorf("Close took %v", took)
		}
	})
}

// The socket lives, and no byte comes: rueidis' PING notices.
func TestH13_AStoppedServerIsACutWithinFourSeconds(t *testing.T) {
	t.Parallel()
	s := redistest.Real(t)
	st := listen(t, s) // with the probe as it is
	r := joined(t, st, "n")
	s.Signal(syscall.SIGSTOP)
	began := time.Now()
	eventually(t, "a cut", func() bool { return !r.isLive() })
	if took := time.Since(began); took > 2*streamKeepAlive+streamWriteTimeout+time.Second {
		t.Errorf("it was noticed after %v", took)
	}
	await(t, st, Cut)
	if st.State().Cause == nil {
		t.Error("the cut has no cause")
	}
	s.Signal(syscall.SIGCONT)
	await(t, st, Live)
	heard(t, redistest.Client(t, s), "n", r)
}

// A connection of which nothing comes any more is noticed by the probe, and
// what it had in store is void.
func TestH13_AHalfOpenLinkIsNoticedByTheProbe(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		const every = 100 * time.Millisecond
		var l link
		st := listen(t, s, by(&l), probing(every))
		r := joined(t, st, "n")
		release := l.hold(false)
		began := time.Now()
		publish(t, admin, "n", keys(1, "held back"))
		eventually(t, "a cut", func() bool { return r.count("cut", "") == 1 })
		if took := time.Since(began); took > 2*every+500*time.Millisecond {
			t.Errorf("it was noticed after %v", took)
		}
		awaitCuts(t, st, 1)
		release()
		heard(t, admin, "n", r)
		if got := r.count("drop", "held back"); got != 0 {
			t.Error("a message of the dead connection reached the tier")
		}
	})
}

func TestH13_TheCauseOfASilentLinkSaysSo(t *testing.T) {
	t.Parallel()
	s := redistest.Embedded(t)
	var l link
	st := listen(t, s, by(&l), probing(50*time.Millisecond), func(c *Config) { c.Timeout = 200 * time.Millisecond })
	causes := make(chan error, 100)
	st.OnState(func(s State) { causes <- s.Cause })
	release := l.hold(true)
	defer release()
	if c := <-causes; c == nil || !strings.Contains(c.Error(), "silent") {
		t.Errorf("the cause is %v", c)
	}
}

// What is slow to end a connection does not keep the tier live.
func TestH6_TheTierIsCutBeforeTheConnectionIsClosed(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		var l link
		st := listen(t, s, by(&l), probing(time.Hour))
		r := joined(t, st, "n")
		closing := newGate()
		open := sync.OnceFunc(func() { close(closing.goOn) })
		defer open()
		gateNext(st, gate{}, closing)
		l.closeNewest()
		awaitCuts(t, st, 1) // the connection is of the gated client now
		l.closeNewest()
		<-closing.there
		if r.isLive() {
			t.Error("the connection is being closed and the tier is live")
		}
		open()
		awaitCuts(t, st, 2)
	})
}

func TestH18_ASubscriberThatIsTooSlowIsCutByTheServerAndComesBack(t *testing.T) {
	t.Parallel()
	s := redistest.Real(t, "--client-output-buffer-limit", "pubsub", "262144", "131072", "1")
	admin := redistest.Client(t, s)
	l := link{rcvBuf: 4096}
	st := listen(t, s, by(&l), probing(time.Hour))
	r := joined(t, st, "n")
	release := l.hold(false)
	big := keys(1, strings.Repeat("k", 60_000))
	eventually(t, "the server cuts the subscriber", func() bool {
		publish(t, admin, "n", big)
		return numSub(t, admin, "n") == 0
	})
	release()
	awaitCuts(t, st, 1)
	heard(t, admin, "n", r)
	if got := st.State(); got.Cuts != 1 {
		t.Errorf("%+v", got)
	}
}

func TestH6_RightsRevokedAreTheCauseUntilTheyAreGrantedAgain(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	var l link
	st := listen(t, s, by(&l), probing(time.Second), user(t, admin, "+@all", "allchannels"))
	r := joined(t, st, "n")
	revoke := map[string][2][]string{
		"the channels":   {{"resetchannels"}, {"allchannels"}},
		"SUBSCRIBE":      {{"-subscribe"}, {"+subscribe"}},
		"PUBLISH":        {{"-publish"}, {"+publish"}},
		"one channel":    {{"resetchannels", "&flipcache:self:*"}, {"allchannels"}},
		"the whole user": {{"off"}, {"on"}},
	}
	for name, rules := range revoke {
		t.Run(name, func(t *testing.T) {
			cuts := st.State().Cuts
			redistest.Do(t, admin, append([]string{"ACL", "SETUSER", "u"}, rules[0]...)...)
			redistest.Do(t, admin, "CLIENT", "KILL", "USER", "u") // Redis itself cuts who lost a channel, no other
			eventually(t, "the cause is the right that is missing", func() bool {
				got := st.State()
				return got.Status == Cut && got.Cause != nil &&
					(strings.Contains(got.Cause.Error(), "NOPERM") || strings.Contains(got.Cause.Error(), "WRONGPASS"))
			})
			before, _ := l.counts()
			steady(t, &l, func() { time.Sleep(300 * time.Millisecond) })
			if after, _ := l.counts(); after-before > 20 {
				t.Errorf("%d dials in 300 ms", after-before)
			}
			if n := r.count("resume", ""); n != int(cuts)+1 {
				t.Errorf("the tier was resumed %d times, for %d cuts, and the stream was never live", n, cuts)
			}
			redistest.Do(t, admin, append([]string{"ACL", "SETUSER", "u"}, rules[1]...)...)
			await(t, st, Live)
			heard(t, admin, "n", r)
			if got := st.State(); got.Cuts != cuts+1 || got.Cause != nil {
				t.Errorf("%+v, want %d cuts", got, cuts+1)
			}
		})
	}
}

// Redis cuts a subscriber whose channels are taken away, without being asked.
func TestH6_ChannelsRevokedCutAtOnce(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	st := listen(t, s, probing(time.Hour), user(t, admin, "+@all", "allchannels"))
	r := joined(t, st, "n")
	redistest.Do(t, admin, "ACL", "SETUSER", "u", "resetchannels")
	eventually(t, "a cut", func() bool { return !r.isLive() })
	eventually(t, "the cause is NOPERM", func() bool {
		c := st.State().Cause
		return c != nil && strings.Contains(c.Error(), "SUBSCRIBE: NOPERM")
	})
}

// The probes' connection carries nothing that could be lost.
func TestLosingTheProbesConnectionIsNoCut(t *testing.T) {
	t.Parallel()
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	st := listen(t, s, probing(400*time.Millisecond))
	joined(t, st, "n")
	for range 20 {
		before := st.heardProbe()
		redistest.Do(t, admin, "CLIENT", "KILL", "TYPE", "normal")
		eventually(t, "a probe is heard", func() bool { return st.heardProbe() != before })
	}
	if got := st.State(); got.Cuts != 0 {
		t.Errorf("%d cuts, want none", got.Cuts)
	}
}

// Two servers behind one address, or a deposed master: a subscription on the
// one hears nothing of what is written on the other.
func TestH15_AConnectionToAnotherServerIsNeverLive(t *testing.T) {
	a, b := redistest.Embedded(t), redistest.Embedded(t)
	bl := &balancer{addrs: []string{a.Addr}}
	l := link{via: bl}
	st := listen(t, a, by(&l), probing(time.Hour), func(c *Config) { c.Timeout = 100 * time.Millisecond })
	r := joined(t, st, "n")
	bl.now(b.Addr) // the connection that publishes stays where it is
	l.closeNewest()
	eventually(t, "the cause says that nothing is heard", func() bool {
		s := st.State()
		if s.Cuts > 0 && (s.Status == Live || r.isLive()) {
			t.Fatal("live on a server that hears nobody")
		}
		return s.Cause != nil && strings.Contains(s.Cause.Error(), "not heard")
	})
	bl.now(a.Addr)
	await(t, st, Live)
}

// Who asks beside the stream, as often as he likes and while an answer takes its
// time, has nothing to do with how long the stream waits for its own.
func TestAskingBesideTheStreamIsNoCut(t *testing.T) {
	for _, mode := range []Mode{PubSub, Tracking} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			s := redistest.Real(t)
			const every = 200 * time.Millisecond
			var l link
			st := listen(t, s, by(&l), probing(every), func(c *Config) { c.Mode = mode })
			for end := time.Now().Add(5 * every); time.Now().Before(end); {
				release := l.hold(false) // an answer takes a while, less than the stream waits
				before := st.heardProbe()
				done := make(chan error, 1)
				go func() { done <- st.Ask() }()
				time.Sleep(every / 4)
				release()
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				eventually(t, "the answer", func() bool { return st.heardProbe() != before })
			}
			if got := st.State(); got.Cuts != 0 {
				t.Errorf("%+v", got)
			}
		})
	}
}
