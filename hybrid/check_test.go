package hybrid

import (
	"errors"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/flipcache/flipcache/internal/redistest"
	"github.com/flipcache/flipcache/invalidate"
)

// wantProblem checks that one of r's problems contains all parts.
func wantProblem(t *testing.T, r Report, parts ...string) {
	t.Helper()
	for _, p := range r.Problems {
		all := true
		for _, part := range parts {
			all = all && strings.Contains(p, part)
		}
		if all {
			if !strings.Contains(r.String(), p) || r.Err() == nil {
				t.Errorf("the problem is not in the text, or there is no error:\n%v", r)
			}
			return
		}
	}
	t.Errorf("no problem has %q:\n%v", parts, r)
}

func TestCheckOfWhatWorks(t *testing.T) {
	s := redistest.Real(t)
	for _, mode := range []invalidate.Mode{invalidate.Off, invalidate.PubSub, invalidate.Tracking} {
		for _, lease := range []time.Duration{0, testLease} {
			if mode == invalidate.Off && lease > 0 {
				continue
			}
			p := join(t, s, mode, func(o *StoreOptions, _ *Options[string, string]) {
				o.MaxStaleness, o.Announce = lease, mode == invalidate.Tracking
			})
			p.set(t, "k", "v")
			for range 2 {
				r, err := p.store.Check(ctx)
				if err != nil || r.Err() != nil {
					t.Fatalf("%v: %v, %v", mode, err, r)
				}
				if r.Mode != mode || r.RoundTrip <= 0 || !regexp.MustCompile(`(redis|valkey) \d.* master`).MatchString(r.Server) {
					t.Errorf("%v: %+v", mode, r)
				}
				if mode == invalidate.Off {
					continue
				}
				if r.Delivery <= 0 || r.State.Status != invalidate.Live || r.MaxStaleness != lease {
					t.Errorf("%v: %+v", mode, r)
				}
				if peers := len(r.Peers["n"]) + int(r.Listeners["n"]); peers == 0 || !strings.Contains(r.String(), "cache n") {
					t.Errorf("%v: no peers, not even itself:\n%v", mode, r)
				}
			}
			if p.local("k") != "v" && mode != invalidate.Off {
				t.Errorf("%v: Check has dropped an entry", mode)
			}
		}
	}
}

func TestCheckNamesWhatIsWrong(t *testing.T) {
	t.Run("a fleet in which some do not hear the others", func(t *testing.T) {
		s := redistest.Real(t)
		tracking, pubsub := join(t, s, invalidate.Tracking), join(t, s, invalidate.PubSub)
		if err := tracking.store.stream.Ask(); err != nil {
			t.Fatal(err)
		}
		r, err := pubsub.store.Check(ctx)
		if err != nil {
			t.Fatal(err)
		}
		wantProblem(t, r, "cache n", "StoreOptions.Announce")
		if len(r.Peers["n"]) != 2 || r.Listeners["n"] != 1 {
			t.Errorf("peers: %v", r)
		}
		if r, err = tracking.store.Check(ctx); err != nil {
			t.Fatal(err)
		}
		wantProblem(t, r, "cache n", "StoreOptions.Announce")
	})
	t.Run("rights that are missing", func(t *testing.T) {
		s := redistest.Real(t)
		admin := redistest.Client(t, s)
		redistest.Do(t, admin, "ACL", "SETUSER", "u", "on", ">p", "~*", "&*", "+@all")
		p := join(t, s, invalidate.PubSub, func(o *StoreOptions, _ *Options[string, string]) {
			o.Client.Username, o.Client.Password = "u", "p"
		})
		redistest.Do(t, admin, "ACL", "SETUSER", "u", "resetchannels", "&flipcache:self:*", "-unlink", "-pttl")
		r, err := p.store.Check(ctx)
		if err != nil {
			t.Fatal(err)
		}
		wantProblem(t, r, "UNLINK", "NOPERM")
		wantProblem(t, r, "PTTL", "NOPERM")
		wantProblem(t, r, "PUBLISH to the channel of n", "NOPERM")
	})
	t.Run("a master that became a replica", func(t *testing.T) {
		s := redistest.Real(t)
		admin := redistest.Client(t, s)
		p := join(t, s, invalidate.Tracking, underLease(nil))
		redistest.Do(t, admin, "REPLICAOF", "127.0.0.1", "1")
		p.awaitStatus(t, invalidate.Cut)
		r, err := p.store.Check(ctx)
		if err != nil {
			t.Fatal(err)
		}
		wantProblem(t, r, "replica", "master")
		wantProblem(t, r, "SET", "READONLY")
		wantProblem(t, r, "invalidation is cut", "READONLY")
		if r.State.Cuts != 1 || r.State.LastCause == nil || !strings.Contains(r.String(), "last cut") {
			t.Errorf("%v", r)
		}
	})
	t.Run("a server that is stopped", func(t *testing.T) {
		s := redistest.Real(t)
		p := join(t, s, invalidate.PubSub, func(o *StoreOptions, _ *Options[string, string]) { o.Timeout = 200 * time.Millisecond })
		s.Signal(syscall.SIGSTOP)
		defer s.Signal(syscall.SIGCONT)
		within(t, 5*time.Second, "Check", func() {
			r, err := p.store.Check(ctx)
			if err != nil {
				t.Error(err)
			}
			wantProblem(t, r, "Redis does not answer")
		})
	})
	t.Run("a Store that is closed", func(t *testing.T) {
		s := redistest.Embedded(t)
		p := join(t, s, invalidate.PubSub)
		p.store.Close()
		if _, err := p.store.Check(ctx); !errors.Is(err, ErrClosed) {
			t.Errorf("got %v", err)
		}
	})
}

// Each Check is about its own write: what others check, and what an earlier one has
// left, neither passes for it nor keeps it from being heard.
func TestCheckHearsItsOwnWriteAndNoOther(t *testing.T) {
	t.Run("others check, too", func(t *testing.T) {
		s := redistest.Real(t)
		admin := redistest.Client(t, s)
		p := join(t, s, invalidate.PubSub, func(o *StoreOptions, _ *Options[string, string]) { o.Timeout = 2 * time.Second })
		for range 2 {
			r, err := p.store.Check(ctx)
			if err != nil || r.Err() != nil || r.Delivery <= 0 {
				t.Fatalf("%v, %v", err, r)
			}
			for i := range 200 {
				m, _ := invalidate.AppendKeys(nil, invalidate.Sender{}, 1, []string{key(i)})
				redistest.Do(t, admin, "PUBLISH", invalidate.Channel(checkCache), string(m))
			}
		}
	})
	for _, mode := range invalidating {
		t.Run("connections are spread over two servers, "+mode.String(), func(t *testing.T) {
			t.Parallel()
			s, other := redistest.Real(t), redistest.Real(t)
			m := new(movable)
			m.addr.Store(&s.Addr)
			p := join(t, s, mode, func(o *StoreOptions, _ *Options[string, string]) {
				o.Client.DialCtxFn, o.Timeout = m.dial, 500*time.Millisecond
			})
			p.set(t, "k", "v")
			m.addr.Store(&other.Addr)
			for range 3 {
				r, err := p.store.Check(ctx)
				if err != nil {
					t.Fatal(err)
				}
				wantProblem(t, r, "not heard", "proxy")
			}
		})
	}
}
