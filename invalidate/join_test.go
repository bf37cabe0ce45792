package invalidate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/internal/redisserver"
	"github.com/flipcache/flipcache/internal/redistest"
)

func TestJoinWhileLiveReturnsWithTheTierLive(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		st := listen(t, s)
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				r := new(recorder)
				name := fmt.Sprint("n", i)
				if err := st.Join(ctx, name, r); err != nil || !r.isLive() {
					t.Errorf("Join: %v, live: %v", err, r.isLive())
				}
				heard(t, admin, name, r)
				r.inTurn(t)
			})
		}
		wg.Wait()
	})
}

func TestJoinWhileCutReturnsAtOnceAndGoesLiveWithTheStream(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		var l link
		st := listen(t, s, by(&l), probing(20*time.Millisecond))
		first := joined(t, st, "first")
		l.refuseAll(errors.New("refused by the test"))
		l.closeAll()
		await(t, st, Cut)
		second := new(recorder)
		if err := st.Join(ctx, "second", second); err != nil {
			t.Fatal(err)
		}
		if first.isLive() || second.isLive() {
			t.Error("cut, and a tier is live")
		}
		l.refuseAll(nil)
		await(t, st, Live)
		heard(t, admin, "first", first)
		heard(t, admin, "second", second)
		second.inTurn(t)
	})
}

func TestJoinOfAClosedStreamSaysSo(t *testing.T) {
	st := listen(t, redistest.Embedded(t))
	st.Close()
	if err := st.Join(ctx, "n", new(recorder)); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
}

func TestJoinWithAnEndedContextJoinsNothing(t *testing.T) {
	s := redistest.Embedded(t)
	st := listen(t, s)
	ended, cancel := context.WithCancel(ctx)
	cancel()
	r := new(recorder)
	if err := st.Join(ended, "n", r); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	joined(t, st, "n") // the name is free
	if got := r.all(); len(got) != 0 {
		t.Errorf("the tier was told %v", got)
	}
}

// A subscription that is slow is no failure: the tier goes live when it comes.
func TestJoinThatWaitedInVainGoesLiveLater(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	var l link
	st := listen(t, s, by(&l), probing(time.Hour))
	release := l.hold(false)
	r := new(recorder)
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if err := st.Join(short, "n", r); err != nil {
		t.Fatal(err)
	}
	if r.isLive() {
		t.Error("live before the subscription was confirmed")
	}
	release()
	eventually(t, "the tier is live", r.isLive)
	heard(t, admin, "n", r)
	r.inTurn(t)
}

func TestJoinRefusedLeavesTheOtherCachesLive(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	st := listen(t, s, user(t, admin, "+@all", "&flipcache:self:*", "&"+Channel("mine")))
	mine, theirs := joined(t, st, "mine"), new(recorder)
	err := st.Join(ctx, "theirs", theirs)
	if re, refused := rueidis.IsRedisErr(err); !refused || !strings.HasPrefix(re.Error(), "NOPERM") {
		t.Fatalf("got %v, want NOPERM", err)
	}
	publish(t, admin, "theirs", keys(1, "k"))
	heard(t, admin, "mine", mine)
	if got := theirs.all(); len(got) != 0 {
		t.Errorf("the refused tier was told %v", got)
	}
	if got := st.State(); got.Status != Live || got.Cuts != 0 {
		t.Errorf("%+v", got)
	}
	// and nothing of it is left that a new connection would ask for
	redistest.Do(t, admin, "CLIENT", "KILL", "TYPE", "pubsub")
	awaitCuts(t, st, 1)
	heard(t, admin, "mine", mine)
	// granted now, it may be joined again
	redistest.Do(t, admin, "ACL", "SETUSER", "u", "&"+Channel("theirs"))
	heard(t, admin, "theirs", joined(t, st, "theirs"))
}

func TestANameJoinedAgainDrivesTheNewTierOnly(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		st := listen(t, s)
		old := joined(t, st, "n")
		now := joined(t, st, "n")
		if old.isLive() {
			t.Error("the old tier is live and hears nothing")
		}
		publish(t, admin, "n", keys(1, "k"))
		heard(t, admin, "n", now)
		if got := now.count("drop", "k"); got != 1 {
			t.Errorf("the message came %d times", got)
		}
		if got := old.count("drop", "k"); got != 0 {
			t.Error("the old tier heard it")
		}
	})
}

// A joiner that comes while a connection is being set up is subscribed on it,
// by itself or by the stream, and its confirmation is not missed.
func TestH8_JoinBetweenConnectionAndHooksGoesLive(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		var l link
		st := listen(t, s, by(&l), probing(time.Hour))
		hooks := newGate()
		gateNext(st, hooks, gate{})
		l.closeNewest()
		<-hooks.there
		r := new(recorder)
		done := make(chan error)
		go func() { done <- st.Join(ctx, "n", r) }()
		select {
		case err := <-done: // it saw that it would be subscribed
			if err != nil {
				t.Error(err)
			}
			done = nil
		case <-time.After(50 * time.Millisecond): // it sent a SUBSCRIBE of its own, or waits
		}
		close(hooks.goOn)
		if done != nil {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		await(t, st, Live)
		eventually(t, "the tier is live", r.isLive)
		heard(t, admin, "n", r)
		r.inTurn(t)
	})
}

// Caches that join while connections die are on the newest one, once each.
func TestJoinsRacingWithReconnectsAreSubscribedOnce(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	var l link
	st := listen(t, s, by(&l))
	stop := make(chan struct{})
	var killer, joiners sync.WaitGroup
	killer.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				l.closeAll()
				time.Sleep(3 * time.Millisecond)
			}
		}
	})
	tiers := make([]*recorder, 200)
	for w := range 4 {
		joiners.Go(func() {
			for i := w; i < len(tiers); i += 4 {
				tiers[i] = new(recorder)
				if err := st.Join(ctx, fmt.Sprint(i), tiers[i]); err != nil {
					t.Error(err)
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
	joiners.Wait()
	close(stop)
	killer.Wait()
	await(t, st, Live)
	for i, r := range tiers {
		eventually(t, "a tier is live", r.isLive)
		publish(t, admin, fmt.Sprint(i), keys(1, "once"))
		heard(t, admin, fmt.Sprint(i), r)
		if got := r.count("drop", "once"); got != 1 {
			t.Errorf("a message came %d times", got)
		}
		r.inTurn(t)
	}
	if got := numSub(t, admin, "0"); got != 1 {
		t.Errorf("%d connections listen", got)
	}
}
