package invalidate

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/internal/redisserver"
	"github.com/flipcache/flipcache/internal/redistest"
)

// What the connection of an ended session still says is void.
func TestH6_NewsOfAnEndedSessionReachNoTier(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	st := listen(t, s)
	r := joined(t, st, "n")
	st.mu.Lock()
	old := st.session
	st.mu.Unlock()
	late := func() {
		b, _ := AppendKeys(nil, Sender{}, 1, []string{"late"})
		for _, m := range []string{string(b), string(AppendAll(nil, Sender{})), "malformed"} {
			st.ear.(*pubsub).onMessage(old, rueidis.PubSubMessage{Channel: Channel("n"), Message: m})
		}
		st.ear.(*pubsub).onMessage(old, rueidis.PubSubMessage{Channel: st.ear.(*pubsub).self, Message: "late"})
		st.ear.(*pubsub).onSubscription(old, rueidis.PubSubSubscription{Kind: "subscribe", Channel: Channel("n")})
		st.ear.(*pubsub).onSubscription(old, rueidis.PubSubSubscription{Kind: "unsubscribe", Channel: Channel("n")})
	}
	redistest.Do(t, admin, "CLIENT", "KILL", "TYPE", "pubsub")
	eventually(t, "a cut", func() bool { return r.count("cut", "") == 1 })
	late() // cut or live again
	awaitCuts(t, st, 1)
	late()
	st.Close()
	late()
	for _, e := range r.all() {
		if e.What == "drop" || e.What == "all" {
			t.Errorf("the tier was told %v", e)
		}
	}
	if st.Rejected() != 0 || st.heardProbe() == "late" {
		t.Error("the stream listened")
	}
}

// No standalone server does it today: a cluster, a proxy or a release to come
// might. The connection stays, and one of its subscriptions does not.
func TestASubscriptionEndedByTheServerIsACut(t *testing.T) {
	s := redistest.Real(t)
	st := listen(t, s)
	r := joined(t, st, "n")
	st.mu.Lock()
	conn := st.ear.(*pubsub).conn
	st.mu.Unlock()
	// The reply to our own UNSUBSCRIBE is the same push.
	if err := conn.Do(ctx, conn.B().Unsubscribe().Channel(Channel("n")).Build()).Error(); err != nil {
		t.Fatal(err)
	}
	awaitCuts(t, st, 1)
	heard(t, redistest.Client(t, s), "n", r)
}

// A watcher who hears that the stream is live finds every tier live.
func TestLiveIsToldWhenEveryTierIsLive(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		var l link
		st := listen(t, s, by(&l), probing(time.Hour))
		tiers := make([]*slow, 50)
		for i := range tiers {
			tiers[i] = new(slow)
			if err := st.Join(ctx, fmt.Sprint(i), tiers[i]); err != nil {
				t.Fatal(err)
			}
		}
		told := make(chan int, 100)
		defer st.OnState(func(s State) {
			if s.Status != Live {
				return
			}
			n := 0
			for _, r := range tiers {
				if r.isLive() {
					n++
				}
			}
			told <- n
		})()
		for range 3 {
			l.closeNewest()
			if n := <-told; n != len(tiers) {
				t.Fatalf("live, and %d of %d tiers are", n, len(tiers))
			}
		}
	})
}

// slow is a tier that takes its time to resume.
type slow struct{ recorder }

func (s *slow) Resume() {
	time.Sleep(time.Millisecond)
	s.recorder.Resume()
}

// A counter is a tier that checks what Tier promises against a publisher that
// sends 1, 2, 3 and so on: between a resume and a cut no number is missing, none
// comes twice, and none that was sent after the resume is missed.
type counter struct {
	begun *atomic.Uint64 // numbers whose sending has begun

	mu       sync.Mutex
	live     bool
	first    bool   // none was heard since the resume
	last     uint64 // heard
	atResume uint64 // begun by then
	heard    int
	errs     []string
}

func (c *counter) Drop(key string, n uint64, own bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.live {
		return
	}
	c.heard++
	switch {
	case c.first && n > c.atResume+1:
		c.err("%d is the first, and %d were begun at the resume", n, c.atResume)
	case !c.first && n != c.last+1:
		c.err("%d came after %d", n, c.last)
	case n <= c.last:
		c.err("%d came again, after %d", n, c.last)
	}
	c.first, c.last = false, n
}

func (c *counter) Push(string) {}
func (c *counter) DropAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err("DropAll, and nobody asked for it")
}

func (c *counter) Cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.live {
		c.err("cut twice")
	}
	c.live = false
}

func (c *counter) Resume() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.live {
		c.err("resumed twice")
	}
	c.live, c.first, c.atResume = true, true, c.begun.Load()
}

func (c *counter) err(format string, args ...any) {
	if len(c.errs) < 10 {
		c.errs = append(c.errs, fmt.Sprintf(format, args...))
	}
}

// H3, H6, H7, H8: whatever happens to connections, what a tier hears between a
// resume and a cut is everything that was published.
func TestH6_BetweenResumeAndCutNoMessageIsMissing(t *testing.T) {
	t.Parallel()
	ways := map[string]func(t *testing.T, admin rueidis.Client, l *link){
		"killed by the server": func(t *testing.T, admin rueidis.Client, _ *link) {
			redistest.Do(t, admin, "CLIENT", "KILL", "TYPE", "pubsub")
		},
		"broken here": func(_ *testing.T, _ rueidis.Client, l *link) { l.closeAll() },
		"held, then released": func(_ *testing.T, _ rueidis.Client, l *link) {
			release := l.hold(false)
			time.Sleep(rand.N(80 * time.Millisecond))
			release()
		},
	}
	for name, harm := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := redistest.Real(t)
			admin := redistest.Client(t, s)
			var l link
			st := listen(t, s, by(&l), probing(30*time.Millisecond))
			names := []string{"a", "b", "c"}
			begun := make([]atomic.Uint64, len(names))
			tiers := make([]*counter, len(names))
			stop := make(chan struct{})
			var wg sync.WaitGroup
			for i, n := range names {
				tiers[i] = &counter{begun: &begun[i]}
				c := redistest.Client(t, s)
				wg.Go(func() {
					for {
						select {
						case <-stop:
							return
						default:
						}
						b, _ := AppendKeys(nil, st.Sender(), begun[i].Add(1), []string{"k"})
						publish(t, c, n, b)
					}
				})
				if err := st.Join(ctx, n, tiers[i]); err != nil {
					t.Error(err)
				}
			}
			for end := time.Now().Add(1500 * time.Millisecond); time.Now().Before(end); {
				time.Sleep(rand.N(20 * time.Millisecond))
				harm(t, admin, &l)
			}
			await(t, st, Live)
			for _, c := range tiers {
				eventually(t, "every tier is live, and hears", func() bool {
					c.mu.Lock()
					defer c.mu.Unlock()
					return c.live && c.heard >= 100
				})
			}
			close(stop)
			wg.Wait()
			eventually(t, "the last message, or the cut that took it", func() bool {
				for i, c := range tiers {
					c.mu.Lock()
					late := c.live && !c.first && c.last < begun[i].Load()
					c.mu.Unlock()
					if late {
						return false
					}
				}
				return true
			})
			for i, c := range tiers {
				c.mu.Lock()
				for _, e := range c.errs {
					t.Errorf("%s: %s", names[i], e)
				}
				c.mu.Unlock()
			}
			t.Logf("%d cuts, %d of %d messages heard", st.State().Cuts, tiers[0].heard, begun[0].Load())
		})
	}
}
