package hybrid

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/flipcache/flipcache/internal/redistest"
	"github.com/flipcache/flipcache/invalidate"
)

// H5: a writer dies between the write and its announcement, here after each
// single byte of its request.
func TestH5_WriterDiesBetweenWriteAndAnnouncement(t *testing.T) {
	keys := []string{"k1", "k2", "k3"}
	for _, test := range []struct {
		name string
		keys []string
		op   func(process) error
	}{
		{"Set", keys[:1], func(w process) error { return w.Set(ctx, "k1", "new") }},
		{"SetTTL", keys[:1], func(w process) error { return w.SetTTL(ctx, "k1", "new", 30*time.Second) }},
		{"SetMany", keys, func(w process) error {
			return w.SetMany(ctx, map[string]string{"k1": "new", "k2": "new", "k3": "new"})
		}},
		{"Delete", keys[:1], func(w process) error { return w.Delete(ctx, "k1") }},
		{"Delete many", keys, func(w process) error { return w.Delete(ctx, keys...) }},
		{"Touch", keys[:1], func(w process) error { return w.Touch(ctx, "k1", 30*time.Second) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := redistest.Real(t)
			admin := redistest.Client(t, s)
			c := new(cutter)
			w := join(t, s, invalidate.PubSub, func(so *StoreOptions, _ *Options[string, string]) { so.Client.DialCtxFn = c.dial })
			r := join(t, s, invalidate.PubSub)
			heard := newMark(t, r)
			prepare := func() {
				for _, k := range test.keys {
					eventually(t, "the writer writes", func() bool { return w.Set(ctx, k, "old") == nil })
				}
				heard.await(t, admin)
				for _, k := range test.keys {
					r.want(t, k, "old")
					if r.local(k) != "old" {
						t.Fatalf("%s is not in the reader's local tier", k)
					}
				}
			}
			isWrite := func(b []byte) bool {
				return bytes.Contains(b, []byte("MULTI")) || bytes.Contains(b, []byte("EVAL"))
			}

			for range 2 { // the first may load a script
				prepare()
				c.arm(-1, isWrite)
				if err := test.op(w); err != nil {
					t.Fatal(err)
				}
			}
			_, length := c.disarm()
			if length == 0 {
				t.Fatal("no request was seen")
			}
			changed := 0
			for n := range length + 1 {
				prepare()
				received := r.counters.received.Load()
				c.arm(n, isWrite)
				err := test.op(w)
				addr, sent := c.disarm()
				if sent != n {
					t.Fatalf("cut after %d bytes, want %d of %d", sent, n, length)
				}
				if !errors.Is(err, ErrOutcomeUnknown) {
					t.Errorf("cut after byte %d of %d: got %v, want ErrOutcomeUnknown", n, length, err)
				}
				eventually(t, "Redis is done with the connection", func() bool {
					m := redistest.Do(t, admin, "CLIENT", "LIST")
					list, _ := m.ToString()
					return !strings.Contains(list, " addr="+addr+" ")
				})
				heard.await(t, admin)

				if n := r.counters.received.Load() - received; n > uint64(len(test.keys)) {
					t.Errorf("%d announcements for one write of %d keys: it was sent twice", n, len(test.keys))
				}
				for i, k := range test.keys {
					now, ttl := stored(t, admin, k), redistest.Do(t, admin, "PTTL", "n:"+k)
					life, _ := ttl.AsInt64()
					is := now != "old" || life != -1
					if i == 0 && is {
						changed++
					}
					if v := r.local(k); is && v == "old" {
						t.Errorf("cut after byte %d of %d: %s is %q (life %d) in Redis and the reader's tier holds %q", n, length, k, now, life, v)
					}
					if v := w.local(k); v != "" && (v != now || is) {
						t.Errorf("cut after byte %d of %d: %s is %q in Redis and the writer's tier holds %q", n, length, k, now, v)
					}
					for name, p := range map[string]process{"reader": r, "writer": w} {
						var v string
						eventually(t, fmt.Sprintf("%s reads %s", name, k), func() (ok bool) {
							v, err = p.Get(ctx, k)
							return err == nil || errors.Is(err, ErrNotFound)
						})
						if v != now {
							t.Errorf("cut after byte %d of %d: the %s reads %q, Redis holds %q", n, length, name, v, now)
						}
					}
				}
				if t.Failed() {
					return
				}
			}
			if changed == 0 {
				t.Error("not even the whole request changed anything: the test proves nothing")
			}
		})
	}
}
