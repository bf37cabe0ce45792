package invalidate

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flipcache/flipcache/internal/clock"
	"github.com/flipcache/flipcache/internal/redistest"
)

// leased has a stream keep a lease, with so few probes that those of a test are the
// only ones.
func leased(max time.Duration) func(*Config) {
	return func(c *Config) { c.MaxStaleness, c.Lease = max, new(atomic.Int64) }
}

// holdNewest is hold for the connection that was dialled last: the stream's, in
// PubSub.
func (l *link) holdNewest() (release func()) {
	l.mu.Lock()
	newest := l.newest()
	l.mu.Unlock()
	return newest.hold()
}

// H15: the lease counts from when the probe was sent, however late its answer comes.
func TestH15_LeaseCountsFromTheSendingOfTheProbe(t *testing.T) {
	for _, mode := range []Mode{PubSub, Tracking} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			var l link
			st := listen(t, redistest.Real(t), by(&l), leased(MaxMaxStaleness), func(c *Config) { c.Mode = mode })
			release := l.hold(false)
			before := st.heardProbe()
			done := make(chan error, 1)
			go func() { done <- st.Ask() }()
			time.Sleep(20 * time.Millisecond)
			sent := clock.Now() // at the latest
			time.Sleep(200 * time.Millisecond)
			release()
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			eventually(t, "the answer", func() bool { return st.heardProbe() != before })
			if over := st.lease.until.Load() - sent - int64(MaxMaxStaleness); over > int64(100*time.Millisecond) {
				t.Errorf("the lease ends %v later than MaxStaleness after the probe was sent", time.Duration(over))
			}
		})
	}
}

// H15: the probe is answered where invalidations are heard, and nowhere else: that
// Redis took it proves nothing.
func TestH15_WhatTheStreamDoesNotHearGrantsNoLease(t *testing.T) {
	var l link
	st := listen(t, redistest.Real(t), by(&l), leased(MaxMaxStaleness))
	release := l.holdNewest()
	defer release()
	before := st.lease.until.Load()
	for range 3 {
		if err := st.Ask(); err != nil { // by another connection
			t.Fatal(err)
		}
	}
	if now := st.lease.until.Load(); now != before {
		t.Errorf("the stream hears nothing, and the lease was extended by %v", time.Duration(now-before))
	}
}

// H15: what nobody has asked is no answer.
func TestH15_ForeignWordsGrantNoLease(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	st := listen(t, s, leased(MaxMaxStaleness))
	r := joined(t, st, "n")
	before, echo := st.lease.until.Load(), st.heardProbe()
	redistest.Do(t, admin, "PUBLISH", st.ear.(*pubsub).self, "whatever")
	heard(t, admin, "n", r)
	if now := st.lease.until.Load(); now != before || st.heardProbe() != echo {
		t.Errorf("the lease was extended by %v, the answer was %q", time.Duration(now-before), st.heardProbe())
	}
}

// H8: while its SUBSCRIBE is not answered a cache's tier is not live, whatever else
// of it is known already.
func TestH8_TierIsNotLiveBeforeItsChannelIsConfirmed(t *testing.T) {
	var l link
	st := listen(t, redistest.Real(t), by(&l), probing(time.Hour))
	release := l.holdNewest()
	r := new(recorder)
	done := make(chan error, 1)
	go func() { done <- st.Join(ctx, "n", r) }()
	eventually(t, "it joins", func() bool {
		st.mu.Lock()
		defer st.mu.Unlock()
		return st.topics["n"] != nil
	})
	if err := st.Ask(); err != nil { // which lists the process as a member
		t.Fatal(err)
	}
	if r.isLive() {
		t.Error("live, and its channel is not heard")
	}
	release()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if !r.isLive() {
		t.Error("joined, and not live")
	}
}

// A tier serves when its process stands in the cache's list, not before: else who
// writes would not wait for it.
func TestTierIsNotLiveBeforeItsProcessIsAMember(t *testing.T) {
	var l link
	st := listen(t, redistest.Real(t), by(&l), probing(time.Hour))
	l.mu.Lock()
	newest := l.newest()
	held := make(chan struct{})
	for c := range l.conns { // all but the one that hears
		if c != newest {
			c.held = held
		}
	}
	l.mu.Unlock()
	r := new(recorder)
	done := make(chan error, 1)
	go func() { done <- st.Join(ctx, "n", r) }()
	eventually(t, "the confirmed subscription", func() bool {
		st.mu.Lock()
		defer st.mu.Unlock()
		return st.topics["n"] != nil && st.topics["n"].hears
	})
	if r.isLive() {
		t.Error("live, and nobody knows of it")
	}
	close(held)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is live", r.isLive)
}

// Tracking: whoever has another connection made to the server finds the tiers cut,
// also where the old one has not ended yet.
func TestH6_AnotherConnectionCutsBeforeItIsUsed(t *testing.T) {
	s := redistest.Real(t)
	st := listen(t, s, probing(time.Hour), func(c *Config) { c.Mode = Tracking })
	r := joined(t, st, "n")
	conn, release := st.Tracked().Dedicate()
	defer release()
	// It may be closed before it answers: the next session dials, too.
	err := conn.Do(ctx, conn.B().Ping().Build()).Error()
	if err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if r.count("cut", "") == 0 {
		t.Error("another connection is in use, and the tiers were not cut")
	}
	await(t, st, Live)
}

// What is still heard there, as a question, says nothing of what is read by the other.
func TestH6_ConnectionThatHasASuccessorIsClosed(t *testing.T) {
	tr := newHalves(t).t
	first, there := net.Pipe()
	second, _ := net.Pipe()
	if err := there.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	tr.dialed(first, "a")
	tr.dialed(second, "a")
	if _, err := there.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the first is open: %v", err)
	}
}

// Who closes is no member any more, so that nobody waits for it.
func TestWhoClosesIsNoMember(t *testing.T) {
	for _, mode := range []Mode{PubSub, Tracking} {
		s := redistest.Real(t)
		stays, leaves := listen(t, s), listen(t, s, leased(time.Second), func(c *Config) { c.Mode = mode })
		joined(t, stays, "n")
		joined(t, leaves, "n")
		members := func() []Member {
			all, err := stays.Members(ctx, "n")
			if err != nil {
				t.Fatal(err)
			}
			return all
		}
		if got := members(); len(got) != 2 {
			t.Fatalf("%v", got)
		}
		leaves.Close()
		if got := members(); len(got) != 1 || got[0].ID != stays.Sender().String() {
			t.Errorf("%v: closed, and listed: %v", mode, got)
		}
	}
}

// Who has not renewed its membership is no member, although it stands there.
func TestMembersEndAndMayBeOfAVersionToCome(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	st := listen(t, s)
	joined(t, st, "n")
	gone := Member{ID: "gone", Mode: PubSub, Lease: time.Second, Where: "h/1"}
	for _, m := range []struct{ score, member string }{
		{"1000", gone.String()}, {"9999999999999", "of a version to come"}, {"9999999999999", "a b c d e"}, {"9999999999999", "short"},
	} {
		redistest.Do(t, admin, "ZADD", membersPrefix+"n", m.score, m.member)
	}
	got, err := st.Members(ctx, "n")
	if err != nil || len(got) != 1 || got[0].ID != st.Sender().String() {
		t.Errorf("%v, %v: want this process alone", got, err)
	}
	redistest.Do(t, admin, "SET", membersPrefix+"other", "no list")
	if got, err := st.Members(ctx, "other"); err == nil {
		t.Errorf("what is no list has members: %v", got)
	}
}

// H16: without a lease a probe needs not be a write, so a user without the right to it
// may be forgiven; but who does not write because it is no master is no answer.
func TestH16_AReplicasRefusalIsNoAnswer(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	for _, mode := range []Mode{PubSub, Tracking} {
		st := listen(t, s, func(c *Config) { c.Mode = mode })
		if err := st.Ask(); err != nil {
			t.Fatal(err)
		}
		redistest.Do(t, admin, "REPLICAOF", "127.0.0.1", "1")
		if err := st.Ask(); err == nil {
			t.Errorf("%v: a replica answered", mode)
		}
		redistest.Do(t, admin, "REPLICAOF", "NO", "ONE")
		redistest.Do(t, admin, "CONFIG", "SET", "min-replicas-to-write", "1")
		if err := st.Ask(); err != nil {
			t.Errorf("%v: a master that does not write, without a lease: %v", mode, err)
		}
		redistest.Do(t, admin, "CONFIG", "SET", "min-replicas-to-write", "0")
	}
}
