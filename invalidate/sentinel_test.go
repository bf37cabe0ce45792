package invalidate

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"
)

// A ledEar is led to nodes, and answers each probe at once.
type ledEar struct {
	ear
	s     *Stream
	nodes map[string]rueidis.Client
	asked func() // where it is led to
}

func (e ledEar) at() map[string]rueidis.Client {
	if e.asked != nil {
		e.asked()
	}
	return e.nodes
}

func (e ledEar) probe(_ uint64, token string) error {
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	e.s.answered(token)
	return nil
}

// H16: a switch that a sentinel knew of before the lease began is known: the time is
// noted, then the sentinels are asked.
func TestH16_LeaseCountsFromBeforeTheSentinelsWereAsked(t *testing.T) {
	var now atomic.Int64
	now.Store(int64(time.Hour))
	s := newStream(Config{MaxStaleness: time.Second, Lease: new(atomic.Int64), Timeout: 5 * time.Second, now: now.Load})
	s.ctx = ctx
	s.watch = asSentinels(t, fakeSentinel{says: []string{"10.0.0.1", "6379"}})
	s.ear = ledEar{s: s, nodes: map[string]rueidis.Client{"10.0.0.1:6379": nil}, asked: func() { now.Add(int64(time.Millisecond)) }}
	s.begin()
	began := now.Load()
	if err := s.Ask(); err != nil {
		t.Fatal(err)
	}
	if over := s.lease.until.Load() - began - int64(time.Second); over != 0 {
		t.Errorf("the lease ends %v later than MaxStaleness after the sentinels were asked", time.Duration(over))
	}
}

// H16: a connection that will carry reads is made to another master than the one that
// is listened to: the tiers are cut before it is.
func TestH16_DialingAnotherMasterIsACut(t *testing.T) {
	for addr, want := range map[string]bool{"10.0.0.1:6379": false, "10.0.0.9:26379": false, "10.0.0.2:6379": true} {
		s := newStream(Config{})
		s.watch = &sentinels{addrs: []string{"10.0.0.9:26379"}}
		s.ear = ledEar{s: s, nodes: map[string]rueidis.Client{"10.0.0.1:6379": nil}}
		r := new(recorder)
		s.topics["n"] = &topic{tier: r, live: true}
		_, _, failed := s.begin()
		s.state.Status = Live
		s.Dialing(addr)
		if got := r.count("cut", "") == 1; got != want {
			t.Errorf("%s is dialled: cut: %t", addr, got)
		}
		select {
		case err := <-failed:
			if !want || !errors.Is(err, errSwitched) {
				t.Errorf("%s is dialled: the session ends with %v", addr, err)
			}
		default:
			if want {
				t.Errorf("%s is dialled: the session goes on", addr)
			}
		}
	}
}
