package invalidate

import (
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/flipcache/flipcache/internal/redisserver"
	"github.com/flipcache/flipcache/internal/redistest"
)

func TestModesAreReadByTheirNames(t *testing.T) {
	for m, name := range map[Mode]string{Off: "off", PubSub: "pubsub", Tracking: "tracking", 7: "mode(7)"} {
		if m.String() != name {
			t.Errorf("mode %d is %q, want %q", m, m, name)
		}
	}
	for name, want := range map[string]Mode{"off": Off, "PubSub": PubSub, "TRACKING": Tracking} {
		if got, err := ParseMode(name); err != nil || got != want {
			t.Errorf("ParseMode(%q): %v, %v", name, got, err)
		}
	}
	for _, name := range []string{"", "on", "mode(3)", "pubsub "} {
		if got, err := ParseMode(name); err == nil || got != Off {
			t.Errorf("ParseMode(%q): %v, %v", name, got, err)
		}
	}
	if PubSub != 1 || Off != 0 {
		t.Error("the zero value is Off")
	}
}

func TestStatesReadWell(t *testing.T) {
	for want, s := range map[string]State{
		"disabled":         {},
		"cut: gone":        {Status: Cut, Cause: errors.New("gone")},
		"cut":              {Status: Cut},
		"live":             {Status: Live},
		"closed":           {Status: Closed},
		"status(9): cause": {Status: 9, Cause: errors.New("cause")},
	} {
		if got := s.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestSinceIsOfTheStatusAndCausesAreToldOnce(t *testing.T) {
	s := &Stream{state: State{Status: Cut, Cause: errors.New("a"), Since: time.Unix(1, 0)}}
	var told []string
	s.watchers.add(func(st State) { told = append(told, fmt.Sprint(st, " ", st.Cuts)) })
	steps := []struct {
		status Status
		cause  error
		moves  bool // Since
	}{
		{Cut, errors.New("a"), false},
		{Cut, errors.New("b"), false},
		{Cut, errors.New("b"), false},
		{Live, nil, true},
		{Live, nil, false},
		{Cut, errors.New("b"), true},
		{Live, nil, true},
		{Cut, errors.New("c"), true},
		{Closed, nil, true},
	}
	for i, step := range steps {
		before := s.State().Since
		s.mu.Lock()
		s.setStateLocked(step.status, step.cause)
		s.mu.Unlock()
		if got := s.State(); got.Since.Equal(before) == step.moves || got.Status != step.status || got.Cause != step.cause {
			t.Errorf("step %d: %+v", i, got)
		}
	}
	s.watchers.wg.Wait()
	want := []string{"cut: b 0", "live 0", "cut: b 1", "live 1", "cut: c 2", "closed 2"}
	if !reflect.DeepEqual(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
}

func TestOnStateTellsEachStateInOrderUntilItIsRemoved(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		var l link
		st := listen(t, s, by(&l))
		states := make(chan State, 100)
		remove := st.OnState(func(s State) { states <- s })
		l.closeNewest()
		awaitCuts(t, st, 1)
		l.closeNewest()
		awaitCuts(t, st, 2)
		var cuts uint64
		for cuts < 2 {
			if s := <-states; s.Status != Cut || s.Cause == nil || s.Cuts != cuts+1 {
				t.Fatalf("told %+v, want cut number %d with its cause", s, cuts+1)
			}
			cuts++
			s := <-states
			for ; s.Status == Cut; s = <-states { // further causes
				if s.Cuts != cuts {
					t.Fatalf("told %+v", s)
				}
			}
			if s.Status != Live || s.Cause != nil || s.Cuts != cuts {
				t.Fatalf("told %+v, want live", s)
			}
		}
		st.OnState(func(s State) { states <- s })
		remove()
		remove()
		st.Close()
		if s := <-states; s.Status != Closed {
			t.Errorf("told %+v, want closed", s)
		}
		if len(states) != 0 {
			t.Error("told after it was removed")
		}
	})
}

func TestASlowWatcherMissesTheOldestAndNeverTheNewest(t *testing.T) {
	var w watchers
	inside, goOn := make(chan struct{}), make(chan struct{})
	var got []uint64
	w.add(func(s State) {
		if len(got) == 0 {
			close(inside)
			<-goOn
		}
		got = append(got, s.Cuts)
	})
	w.tell(State{Cuts: 0})
	<-inside
	for i := range uint64(10 * maxQueuedStates) {
		w.tell(State{Cuts: i + 1})
	}
	w.mu.Lock()
	if n := len(w.queue); n != maxQueuedStates {
		t.Errorf("%d states are kept, want %d", n, maxQueuedStates)
	}
	w.mu.Unlock()
	close(goOn)
	w.wg.Wait()
	want := []uint64{0}
	for i := range uint64(maxQueuedStates) {
		want = append(want, 9*maxQueuedStates+i+1)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// A watcher may do as it likes, and gets nothing of what came before it.
func TestWatchersMayCallBackIn(t *testing.T) {
	s := redistest.Embedded(t)
	var l link
	st := listen(t, s, by(&l))
	done := make(chan string, 10)
	var removeOther func()
	removeSelf := make(chan func(), 1)
	removeSelf <- st.OnState(func(s State) {
		defer func() { done <- "first" }()
		(<-removeSelf)()
		removeOther()
		if st.State().Cuts == 0 || st.Rejected() != 0 {
			t.Error("the state is older than what was told")
		}
		if err := st.Join(ctx, "from inside", new(recorder)); err != nil {
			t.Error(err)
		}
		st.OnState(func(now State) {
			if now == s {
				t.Error("told of a state from before it was given")
			}
			if now.Status == Live {
				done <- "inner"
			}
		})
	})
	removeOther = st.OnState(func(State) { done <- "other" })
	l.closeNewest()
	if got := <-done; got != "first" {
		t.Errorf("%q was called first", got)
	}
	if got := <-done; got != "inner" {
		t.Errorf("%q was called after it was removed", got)
	}
}

func TestManyWatchersComeAndGoAtNoCost(t *testing.T) {
	var w watchers
	for range 1_000_000 {
		w.add(func(State) { t.Error("called after it was removed") })()
	}
	var n int
	w.add(func(State) { n++ })
	began := time.Now()
	for range 1000 {
		w.tell(State{})
		w.wg.Wait()
	}
	if took := time.Since(began); n != 1000 || took > 2*time.Second {
		t.Errorf("%d calls in %v", n, took)
	}
}

// A watcher that never returns is waited for no longer than Timeout.
func TestCloseWaitsForWatchersWithinReason(t *testing.T) {
	s := redistest.Embedded(t)
	const timeout = 200 * time.Millisecond
	for _, forever := range []bool{false, true} {
		var l link
		st := listen(t, s, by(&l), func(c *Config) { c.Timeout = timeout })
		inside, goOn := make(chan struct{}), make(chan struct{})
		var last Status
		st.OnState(func(s State) {
			if last == Disabled {
				close(inside)
				<-goOn
			}
			last = s.Status
		})
		l.closeNewest()
		<-inside
		if !forever {
			time.AfterFunc(timeout/4, func() { close(goOn) })
		}
		began := time.Now()
		st.Close()
		took := time.Since(began)
		if took < timeout/4 || took > timeout+time.Second {
			t.Errorf("Close took %v", took)
		}
		if forever {
			close(goOn)
			st.Close() // waits for the rest
		}
		if last != Closed {
			t.Errorf("the last state told is %v, want closed", last)
		}
	}
}

func TestAWatcherMayCloseTheStream(t *testing.T) {
	s := redistest.Embedded(t)
	var l link
	st := listen(t, s, by(&l), func(c *Config) { c.Timeout = 100 * time.Millisecond })
	closed := make(chan struct{})
	var once sync.Once
	st.OnState(func(State) { once.Do(func() { st.Close(); close(closed) }) })
	l.closeNewest()
	<-closed
	if got := st.State().Status; got != Closed {
		t.Errorf("got %v", got)
	}
}

// What a session does that goes on while the stream is closed brings nothing back.
func TestClosedIsForGood(t *testing.T) {
	s := newStream(Config{Mode: Tracking})
	s.ear = &tracking{s: s}
	tier := new(recorder)
	s.topics["n"] = &topic{tier: tier, hears: true, member: true}
	s.end(Closed, nil)
	s.end(Cut, errors.New("lost"))
	if st := s.State(); st.Status != Closed || st.Cause != nil {
		t.Errorf("lost afterwards: %v", st)
	}
	id, _, _ := s.begin()
	s.setLive(id)
	if st := s.State(); st.Status != Closed || s.topics["n"].live {
		t.Errorf("answered afterwards: %v, the tier is live: %t", st, s.topics["n"].live)
	}
	if err := s.Join(t.Context(), "n", tier); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
}

// R36: 64 goroutines do everything while the stream is closed.
func TestEverythingMayBeCalledDuringClose(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		for range 5 {
			st := listen(t, s, probing(time.Millisecond))
			start := make(chan struct{})
			var wg sync.WaitGroup
			for g := range 64 {
				wg.Go(func() {
					<-start
					for i := range 20 {
						if err := st.Join(ctx, fmt.Sprint(g, i), new(recorder)); err != nil && !errors.Is(err, ErrClosed) {
							t.Error(err)
						}
						remove := st.OnState(func(State) { st.State() })
						st.State()
						st.Rejected()
						st.Nonces(3)
						remove()
						if g%8 == 0 && i == 10 {
							st.Close()
						}
					}
				})
			}
			close(start)
			runtime.Gosched()
			st.Close()
			wg.Wait()
			if got := st.State().Status; got != Closed {
				t.Fatalf("got %v", got)
			}
			if err := st.Join(ctx, "n", new(recorder)); !errors.Is(err, ErrClosed) {
				t.Errorf("got %v, want ErrClosed", err)
			}
		}
	})
}

func TestTheLogHasALineForEachCutAndResume(t *testing.T) {
	s := redistest.Embedded(t)
	core, logs := observer.New(zap.DebugLevel)
	var l link
	st := listen(t, s, by(&l), func(c *Config) { c.Logger = zap.New(core) })
	for i := range uint64(3) {
		l.closeNewest()
		awaitCuts(t, st, i+1)
	}
	st.Close()
	var warnings, infos int
	for _, e := range logs.All() {
		switch e.Level {
		case zap.WarnLevel:
			warnings++
			if e.ContextMap()["error"] == nil {
				t.Errorf("a cut without its cause: %v", e)
			}
		case zap.InfoLevel:
			infos++
		default:
			t.Errorf("%v", e)
		}
	}
	if infos != 4 || warnings < 3 {
		t.Errorf("%d lines for live, %d for cut; want 4, and 3 or a few more", infos, warnings)
	}
}

// Old servers and proxies speak RESP2 only: subscriptions have a connection of
// their own there.
func TestRESP2WorksAsRESP3Does(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		var l link
		st := listen(t, s, by(&l), probing(20*time.Millisecond), func(c *Config) { c.Client.AlwaysRESP2 = true })
		a, b := joined(t, st, "a"), joined(t, st, "b")
		steady(t, &l, func() {
			for i := range uint64(20) {
				publish(t, admin, "a", keys(1, fmt.Sprint(i)))
				heard(t, admin, "a", a)
				heard(t, admin, "b", b)
				l.closeNewest()
				awaitCuts(t, st, i+1)
			}
		})
		heard(t, admin, "a", a)
		heard(t, admin, "b", b)
		for i := range 20 {
			if got := a.count("drop", fmt.Sprint(i)); got != 1 {
				t.Errorf("message %d came %d times", i, got)
			}
		}
		before := st.heardProbe()
		eventually(t, "a probe is heard", func() bool { return st.heardProbe() != before })
	})
}

// A watcher is told the present state first, once, and then each new one, in order.
func TestWatchBeginsWithThePresentState(t *testing.T) {
	st := &Stream{state: State{Status: Live}}
	for range 200 {
		var mu sync.Mutex
		var got []uint64
		var wg sync.WaitGroup
		wg.Go(func() {
			for range 5 {
				st.mu.Lock()
				st.state.Cuts++
				st.watchers.tell(st.state)
				st.mu.Unlock()
			}
		})
		remove := st.Watch(func(s State) {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, s.Cuts)
		})
		wg.Wait()
		st.watchers.wg.Wait()
		remove()
		mu.Lock()
		if len(got) == 0 || got[len(got)-1] != st.state.Cuts {
			t.Fatalf("told %d, the state is %d", got, st.state.Cuts)
		}
		for i := range got[1:] {
			if got[i+1] != got[i]+1 {
				t.Fatalf("told %d", got)
			}
		}
		mu.Unlock()
	}
}
