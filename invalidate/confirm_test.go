package invalidate

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2/server"
	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/internal/clock"
	"github.com/flipcache/flipcache/internal/redistest"
)

// What an acknowledged write waits for counts from when Redis had answered: who was
// listed just before that has its lease from no earlier.
func TestTheWaitForALeaseCountsFromTheReply(t *testing.T) {
	s := redistest.Real(t)
	st := listen(t, s, leased(MaxMaxStaleness))
	at := clock.Now() - int64(2*MaxMaxStaleness) // an old connection: no floor
	st.cfg.Dialed = new(atomic.Int64)
	st.cfg.Dialed.Store(at)
	silent := Member{ID: "silent", Mode: PubSub, Lease: 300 * time.Millisecond, Where: "h/1"}
	redistest.Do(t, redistest.Client(t, s), "ZADD", membersPrefix+"n", "9999999999999", silent.String())
	var l link
	o := s.ClientOption()
	o.DialCtxFn = l.dial
	client, err := rueidis.NewClient(o)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	release := l.hold(false)
	held := 200 * time.Millisecond
	began := time.Now()
	time.AfterFunc(held, release)
	if err := st.Confirm(ctx, client, "n"); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < held+silent.Lease {
		t.Errorf("it waited for %v: the reply came after %v, and the lease is %v", took, held, silent.Lease)
	}
}

// A fakeSentinel says what a test has it say.
type fakeSentinel struct {
	says  []string      // nil: an error
	after time.Duration // before 0: never
}

// asSentinels returns what asks sentinels that answer so.
func asSentinels(t *testing.T, all ...fakeSentinel) *sentinels {
	var addrs []string
	over := make(chan struct{})
	for _, f := range all {
		s, err := server.NewServer("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		s.Register("HELLO", func(c *server.Peer, _ string, _ []string) {
			c.WriteMapLen(1)
			c.WriteBulk("version")
			c.WriteBulk("7.0.15")
		})
		for _, ok := range []string{"CLIENT", "PING"} {
			s.Register(ok, func(c *server.Peer, _ string, _ []string) { c.WriteOK() })
		}
		s.Register("SENTINEL", func(c *server.Peer, _ string, _ []string) {
			if f.after < 0 {
				<-over
			}
			time.Sleep(f.after)
			if f.says == nil {
				c.WriteError("ERR unknown")
				return
			}
			c.WriteStrings(f.says)
		})
		addrs = append(addrs, s.Addr().String())
	}
	t.Cleanup(func() { close(over) }) // before the servers end
	q := newSentinels(ctx, Config{Timeout: time.Second, Client: rueidis.ClientOption{
		InitAddress: addrs, Sentinel: rueidis.SentinelOption{MasterSet: "m"},
	}}, 100*time.Millisecond, func(string) {})
	t.Cleanup(q.close)
	return q
}

// H16: all sentinels that answer have to name the master that is listened to, and
// most of them have to answer. The one that knows of a switch may be any.
func TestH16_OneSentinelThatNamesAnotherMasterIsEnough(t *testing.T) {
	this, other := []string{"10.0.0.1", "6379"}, []string{"10.0.0.2", "6379"}
	yes, no := fakeSentinel{says: this}, fakeSentinel{says: other}
	late, lateNo := fakeSentinel{says: this, after: 20 * time.Millisecond}, fakeSentinel{says: other, after: 20 * time.Millisecond}
	silent, wrong, odd := fakeSentinel{after: -1}, fakeSentinel{}, fakeSentinel{says: []string{"10.0.0.1"}}
	for _, test := range []struct {
		name string
		all  []fakeSentinel
		want string // "", "switched" or "unknown"
	}{
		{"all name it", []fakeSentinel{yes, yes, yes}, ""},
		{"the first names another", []fakeSentinel{no, yes, yes}, "switched"},
		{"the last names another", []fakeSentinel{yes, yes, no}, "switched"},
		{"the slowest names another", []fakeSentinel{yes, yes, lateNo}, "switched"},
		{"one is slow", []fakeSentinel{yes, late, yes}, ""},
		{"one is silent", []fakeSentinel{yes, silent, yes}, ""},
		{"one knows no such set", []fakeSentinel{yes, wrong, yes}, ""},
		{"one says what is no address", []fakeSentinel{yes, yes, odd}, ""},
		{"most are silent", []fakeSentinel{silent, silent, yes}, "unknown"},
		{"most know no such set", []fakeSentinel{wrong, odd, yes}, "unknown"},
		{"half of them answer", []fakeSentinel{yes, silent}, "unknown"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			q := asSentinels(t, test.all...)
			short, cancel := context.WithTimeout(ctx, 2*time.Second)
			defer cancel()
			err := q.confirm(short, []map[string]rueidis.Client{{"10.0.0.1:6379": nil}})
			got := ""
			if errors.Is(err, errSwitched) {
				got = "switched"
			} else if err != nil {
				got = "unknown"
			}
			if got != test.want {
				t.Errorf("got %q (%v), want %q", got, err, test.want)
			}
		})
	}
	q := asSentinels(t, yes)
	q.close()
	if err := q.confirm(ctx, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("after close: %v", err)
	}
}

// H16: a sentinel that does not answer tells of no switch, so who listens to it has to
// turn to another; who answers, if only later than others, is listened to as before.
func TestH16_WhoIsSilentIsLeftAndNobodyElse(t *testing.T) {
	this, other := []string{"10.0.0.1", "6379"}, []string{"10.0.0.2", "6379"}
	yes, no, late := fakeSentinel{says: this}, fakeSentinel{says: other}, fakeSentinel{says: this, after: 20 * time.Millisecond}
	silent, wrong := fakeSentinel{after: -1}, fakeSentinel{}
	for _, test := range []struct {
		name string
		all  []fakeSentinel
		left int // -1: none
	}{
		{"all name it", []fakeSentinel{yes, yes, yes}, -1},
		{"one is slow", []fakeSentinel{yes, late, yes}, -1},
		{"one knows no such set", []fakeSentinel{yes, wrong, yes}, -1},
		{"one is silent", []fakeSentinel{yes, silent, yes}, 1},
		{"one names another, one is slow", []fakeSentinel{no, late, yes}, -1},
		{"one names another, one is silent", []fakeSentinel{no, yes, silent}, 2},
		{"most are silent", []fakeSentinel{silent, silent, yes}, -1},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			q := asSentinels(t, test.all...)
			left := make(map[string]bool)
			q.leave = func(addr string) { left[addr] = true }
			for began := time.Now(); time.Since(began) < 3*quiet; time.Sleep(50 * time.Millisecond) {
				short, cancel := context.WithTimeout(ctx, 2*quiet)
				q.confirm(short, []map[string]rueidis.Client{{"10.0.0.1:6379": nil}})
				cancel()
			}
			if test.left >= 0 && !left[q.addrs[test.left]] || len(left) > 1 || test.left < 0 && len(left) > 0 {
				t.Errorf("left %v of %v, want number %d", left, q.addrs, test.left)
			}
		})
	}
}
