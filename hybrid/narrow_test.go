package hybrid

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flipcache/flipcache/internal/clock"
	"github.com/flipcache/flipcache/internal/redistest"
	"github.com/flipcache/flipcache/invalidate"
)

// old has p's connections count as old: none may have been made to a server that was
// promoted since.
func old(p process) { p.store.dialed.Store(clock.Now() - int64(2*invalidate.MaxMaxStaleness)) }

// An acknowledged write is seen by every read that begins when it has returned.
func TestAckedWriteIsSeenByAllWhenItReturns(t *testing.T) {
	for _, mode := range invalidating {
		t.Run(mode.String(), func(t *testing.T) {
			s := redistest.Real(t)
			lease := func(o *StoreOptions, _ *Options[string, string]) { o.MaxStaleness = 5 * time.Second }
			w, r := join(t, s, mode, lease), join(t, s, mode, lease)
			old(w)
			for range 100 {
				w.set(t, "k", "old")
				eventually(t, "the reader holds it", func() bool { r.Get(ctx, "k"); return r.local("k") == "old" })
				if err := w.Acked().Set(ctx, "k", "new"); err != nil {
					t.Fatal(err)
				}
				if v := r.local("k"); v == "old" {
					t.Fatal("the write was acknowledged, and what it replaced is served")
				}
			}
		})
	}
}

// A process that joins while an acknowledged write is under way is asked, too: who
// listens is looked up when the write is done.
func TestAckedWriteIsHeardByWhoCameJustBefore(t *testing.T) {
	s := redistest.Real(t)
	lease := func(o *StoreOptions, _ *Options[string, string]) { o.MaxStaleness = 500 * time.Millisecond }
	w := join(t, s, invalidate.PubSub, lease)
	w.set(t, "k", "old")
	old(w)
	g := newGate(w, beforeWriteSend, "k")
	var err error
	wait := async(func() { err = w.Acked().Set(ctx, "k", "new") })
	<-g.reached
	link := new(staller)
	r := join(t, s, invalidate.PubSub, lease, func(o *StoreOptions, _ *Options[string, string]) { o.Client.DialCtxFn = link.dial })
	r.want(t, "k", "old")
	mend := link.stall(false, true) // it hears nothing: its lease has to be waited for
	defer mend()
	close(g.open)
	wait()
	if v := r.local("k"); err == nil && v == "old" {
		t.Error("the write was acknowledged, and who joined before it was sent serves what it replaced")
	}
}

// Who cannot be waited for is named: one without a lease, and one that hears nothing
// of what is not announced.
func TestAckedNamesWhoCannotBeWaitedFor(t *testing.T) {
	s := redistest.Real(t)
	lease := func(o *StoreOptions, _ *Options[string, string]) { o.MaxStaleness = 5 * time.Second }
	w := join(t, s, invalidate.Tracking, lease)
	old(w)
	none := join(t, s, invalidate.Tracking)
	named := func(err error, why string, p process) {
		t.Helper()
		var u *invalidate.Unconfirmed
		if !errors.As(err, &u) || !errors.Is(err, ErrUnconfirmed) || !strings.Contains(err.Error(), why) ||
			len(u.Members) != 1 || u.Members[0].ID != p.store.stream.Sender().String() {
			t.Errorf("got %v, want one that names %s and %s", err, why, p.store.stream.Sender())
		}
	}
	for name, write := range map[string]func(c *Cache[string, string]) error{
		"Set":     func(c *Cache[string, string]) error { return c.Set(ctx, "k", "v") },
		"SetMany": func(c *Cache[string, string]) error { return c.SetMany(ctx, map[string]string{"k": "v", "l": "v"}) },
		"Update": func(c *Cache[string, string]) error {
			v, err := c.Update(ctx, "k", func(string, bool) (string, error) { return "updated", nil })
			if v != "updated" {
				t.Errorf("Update returned %q beside its error", v)
			}
			return err
		},
		"SetIfAbsent": func(c *Cache[string, string]) error {
			c.Delete(ctx, "absent") // which is not confirmed, either
			done, err := c.SetIfAbsent(ctx, "absent", "v")
			if !done {
				t.Error("SetIfAbsent says that it did not")
			}
			return err
		},
		"Touch":  func(c *Cache[string, string]) error { w.set(t, "k", "v"); return c.Touch(ctx, "k", time.Hour) },
		"Delete": func(c *Cache[string, string]) error { return c.Delete(ctx, "k") },
		"GetAndDelete": func(c *Cache[string, string]) error {
			w.set(t, "k", "v")
			v, err := c.GetAndDelete(ctx, "k")
			if v != "v" {
				t.Errorf("GetAndDelete returned %q beside its error", v)
			}
			return err
		},
		"Clear": func(c *Cache[string, string]) error { return c.Clear(ctx) },
	} {
		t.Run(name, func(t *testing.T) { named(write(w.Acked()), "MaxStaleness", none) })
	}
	counts := newOn(t, w.store, "counts", Options[string, int]{})
	newOn(t, none.store, "counts", Options[string, int]{})
	sum, err := Incr(ctx, counts.Acked(), "k", 3)
	if named(err, "MaxStaleness", none); sum != 3 {
		t.Errorf("Incr returned %d beside its error", sum)
	}
	none.store.Close()
	deaf := join(t, s, invalidate.PubSub, lease)
	named(w.Acked().Set(ctx, "k", "v"), "Announce", deaf)
}

// betweenConn stops before the second of two commands that read a key, and does
// something there once.
type betweenConn struct {
	net.Conn
	once *sync.Once
	in   func()
}

func (c betweenConn) Write(b []byte) (int, error) {
	get, pttl := bytes.Index(b, []byte("*2\r\n$3\r\nGET\r\n")), bytes.Index(b, []byte("*2\r\n$4\r\nPTTL\r\n"))
	if get < 0 || pttl < 0 {
		return c.Conn.Write(b)
	}
	at := max(get, pttl)
	n, err := c.Conn.Write(b[:at])
	if err != nil {
		return n, err
	}
	c.once.Do(c.in)
	m, err := c.Conn.Write(b[at:])
	return n + m, err
}

// H23: a value that is replaced between the two questions of a fill gets no longer
// life than it has.
func TestH23_FillBetweenWhoseQuestionsTheValueIsReplaced(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	p := join(t, s, invalidate.Off, func(o *StoreOptions, _ *Options[string, string]) {
		once := new(sync.Once)
		o.Client.DialCtxFn = func(ctx context.Context, addr string, d *net.Dialer, _ *tls.Config) (net.Conn, error) {
			conn, err := d.DialContext(ctx, "tcp", addr)
			return betweenConn{conn, once, func() {
				time.Sleep(20 * time.Millisecond) // Redis has answered the first one
				redistest.Do(t, admin, "SET", "n:k", "short", "PX", "200")
			}}, err
		}
	})
	redistest.Do(t, admin, "SET", "n:k", "long", "PX", "3600000")
	if v, err := p.Get(ctx, "k"); err != nil {
		t.Fatal(err)
	} else if e := p.flights.Hit("k"); e == nil || v == "short" && time.Duration(e.Deadline-e.Born) > time.Second {
		t.Errorf("read %q, which lives for 200 ms and is held as %+v", v, e)
	}
	if stored(t, admin, "k") != "short" {
		t.Error("it was not replaced: the test proves nothing")
	}
}

// H3: a foreign write between one's own and its reading back is told of to nobody:
// Redis had told, and tracks the key when it is read again. The value tells.
func TestH3_TrackingWriteReplacedBeforeItIsReadBackIsNotKept(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	armed := new(sync.Once)
	armed.Do(func() {})
	p := join(t, s, invalidate.Tracking, func(o *StoreOptions, _ *Options[string, string]) {
		o.Client.DialCtxFn = func(ctx context.Context, addr string, d *net.Dialer, _ *tls.Config) (net.Conn, error) {
			conn, err := d.DialContext(ctx, "tcp", addr)
			return beforeGetConn{conn, &armed, func() {
				time.Sleep(20 * time.Millisecond) // Redis has done what came before
				redistest.Do(t, admin, "SET", "n:k", "foreign")
			}}, err
		}
	})
	armed = new(sync.Once)
	p.set(t, "k", "mine")
	fence(t, p.store)
	if v := p.local("k"); v == "mine" {
		t.Error("the writer holds what was replaced before it read it back")
	}
	if v := stored(t, admin, "k"); v != "foreign" {
		t.Errorf("Redis holds %q: the test proves nothing", v)
	}
}

// H3: Redis does not track the key that is written: the EXISTS before it has it do so,
// or else the push of a foreign write would pass for that of one's own.
func TestH3_TrackingWriteOfAKeyThatRedisDoesNotTrackIsNotKept(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	p := join(t, s, invalidate.Tracking)
	g := newGate(p, afterWriteReply, "k")
	wait := async(func() { p.Set(ctx, "k", "mine") })
	<-g.reached
	redistest.Do(t, admin, "SET", "n:k", "foreign")
	fence(t, p.store)
	close(g.open)
	wait()
	if v := p.local("k"); v == "mine" {
		t.Error("the writer holds what was replaced, and nobody will tell it")
	}
}

// beforeGetConn does something once before a GET.
type beforeGetConn struct {
	net.Conn
	once **sync.Once
	in   func()
}

func (c beforeGetConn) Write(b []byte) (int, error) {
	at := bytes.Index(b, []byte("*2\r\n$3\r\nGET\r\n"))
	if at < 0 {
		return c.Conn.Write(b)
	}
	n, err := c.Conn.Write(b[:at])
	if err != nil {
		return n, err
	}
	(*c.once).Do(c.in)
	m, err := c.Conn.Write(b[at:])
	return n + m, err
}

// Tracking: what a load stored by a script was not read by a command that Redis
// tracks, so the tier does not hold it.
func TestTrackingHoldsNoLoadedValueThatRedisDoesNotTrack(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	p := join(t, s, invalidate.Tracking)
	if v, err := p.GetOrLoad(ctx, "k", value("loaded")); v != "loaded" || err != nil {
		t.Fatal(v, err)
	}
	fence(t, p.store)
	redistest.Do(t, admin, "SET", "n:k", "foreign")
	fence(t, p.store)
	p.want(t, "k", "foreign")
}

// H13: one master of a cluster is silent. What is of it is served no longer than the
// lease, and again when it speaks.
func TestH13_SilentMasterOfACluster(t *testing.T) {
	t.Parallel()
	s := redistest.Cluster(t)
	p := join(t, s, invalidate.Tracking, inCluster())
	redistest.Do(t, redistest.Client(t, s), "SET", "n:k", "v")
	holds(t, p, "k", "v")
	speak := s.Owner(slotOf("k")).Pause()
	silent := time.Now()
	eventually(t, "nothing of it is served", func() bool { return p.local("k") == "" })
	if took := time.Since(silent); took > 2*clusterLease {
		t.Errorf("it was served for %v, the lease is %v", took, clusterLease)
	}
	time.Sleep(time.Until(silent.Add(1500 * time.Millisecond))) // a probe has waited in vain; no replica takes over yet
	if v := p.local("k"); v != "" {
		t.Errorf("the master is silent, and the tier serves %q", v)
	}
	speak()
	p.awaitStatus(t, invalidate.Live)
	holds(t, p, "k", "v")
}

// H17: the tier has an entry, and its slot has moved: the new owner does not track the
// key, so that one's own write needs the EXISTS all the same. Without it the push of a
// foreign write would pass for that of one's own.
func TestH17_OwnWriteBehindAMoveIsTracked(t *testing.T) {
	t.Parallel()
	s := redistest.Cluster(t)
	admin := redistest.Client(t, s)
	p := join(t, s, invalidate.Tracking) // without a lease a probe comes every 5 s
	p.set(t, "k", "v1")
	if err := move(t, s, "k"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it writes at the new owner", func() bool { return p.Set(ctx, "other{n:k}", "v") == nil })
	f, _ := p.flights.BeginFill("k", true, nil) // as where the move has announced nothing
	p.flights.End(f, reply[string]{Value: "v1", Keep: true, Deadline: clock.Never})
	if p.local("k") != "v1" {
		t.Fatal("the tier holds nothing: the test proves nothing")
	}
	g := newGate(p, afterWriteReply, "k")
	wait := async(func() { p.Set(ctx, "k", "mine") })
	<-g.reached
	before := p.counters.received.Load()
	redistest.Do(t, admin, "SET", "n:k", "foreign")
	eventually(t, "a push", func() bool { return p.counters.received.Load() > before })
	close(g.open)
	wait()
	if v := p.local("k"); v == "mine" {
		t.Error("the writer holds what was replaced, and nobody will tell it")
	}
}

// H5, H10, H34: what a Clear sends in a cluster: steps of a bounded number of keys,
// and each removal with its announcement in one transaction.
func TestH34_WhatAClearSendsInACluster(t *testing.T) {
	t.Parallel()
	s := redistest.Masters(t, 1)
	r := new(recorder)
	p := join(t, s, invalidate.PubSub, func(o *StoreOptions, _ *Options[string, string]) { o.Client.DialCtxFn = r.dial })
	wantClearInSteps(t, r, p)
}

// H34: the same on one server.
func TestH34_WhatAClearSends(t *testing.T) {
	r := new(recorder)
	p := join(t, redistest.Real(t), invalidate.PubSub, func(o *StoreOptions, _ *Options[string, string]) { o.Client.DialCtxFn = r.dial })
	wantClearInSteps(t, r, p)
}

func wantClearInSteps(t *testing.T, r *recorder, p process) {
	all := make(map[string]string)
	for i := range 3000 {
		all[key(i)] = "v"
	}
	if err := p.SetMany(ctx, all); err != nil {
		t.Fatal(err)
	}
	r.take()
	if err := p.Clear(ctx); err != nil {
		t.Fatal(err)
	}
	scans, removed, open, announced, inStep := 0, 0, false, false, 0
	for _, c := range r.take() {
		switch strings.ToUpper(c[0]) {
		case "SCAN":
			scans++
			if c[len(c)-1] != "1000" {
				t.Fatalf("%q: want steps of 1000 keys", c)
			}
		case "MULTI":
			open, announced, inStep = true, false, 0
		case "UNLINK":
			removed++
			if inStep++; !open || inStep > 2000 {
				t.Fatalf("%q: in a transaction %t, the %d. there", c, open, inStep)
			}
		case "PUBLISH":
			announced = true
		case "EXEC":
			if !announced {
				t.Fatal("a transaction removed keys and announced nothing")
			}
			open = false
		}
	}
	if scans < 6 || removed < 3000 {
		t.Errorf("%d steps, %d keys removed: the test proves nothing", scans, removed)
	}
}

// H37: a key is created, and ends, while a load that began before it is under way: the
// load's token went with the creation.
func TestH37_LoadOfBeforeAKeyThatCameAndWentIsNotStored(t *testing.T) {
	t.Parallel()
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	st := openStore(t, s, invalidate.PubSub)
	c := newOn(t, st, "n", Options[string, int]{TTL: 20 * time.Millisecond})
	for name, create := range map[string]func(k string) error{
		"SetIfAbsent": func(k string) error { _, err := c.SetIfAbsent(ctx, k, 2); return err },
		"Update": func(k string) error {
			_, err := c.Update(ctx, k, func(int, bool) (int, error) { return 2, nil })
			return err
		},
		"Incr": func(k string) error { _, err := Incr(ctx, c, k, 2); return err },
	} {
		inside, open := make(chan struct{}), make(chan struct{})
		wait := async(func() {
			c.GetOrLoad(ctx, name, func(context.Context, string) (int, error) {
				close(inside)
				<-open
				return 1, nil
			})
		})
		<-inside
		if err := create(name); err != nil {
			t.Error(err)
		}
		eventually(t, "the key ends", func() bool { return stored(t, admin, name) == "" })
		close(open)
		wait()
		if v := stored(t, admin, name); v != "" {
			t.Errorf("%s: what was loaded before it is stored: %q", name, v)
		}
	}
}
