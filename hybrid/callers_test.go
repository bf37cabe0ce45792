package hybrid

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/flipcache/flipcache/internal/redistest"
	"github.com/flipcache/flipcache/invalidate"
)

// A caller's own deadline ends its own call, no other's that shares the
// connection, and the connection stays.
func TestCallersDeadlineEndsNobodyElsesCall(t *testing.T) {
	for _, mode := range []invalidate.Mode{invalidate.Off, invalidate.PubSub, invalidate.Tracking} {
		t.Run(mode.String(), func(t *testing.T) {
			s := redistest.Real(t)
			admin := redistest.Client(t, s)
			p := join(t, s, mode, func(o *StoreOptions, _ *Options[string, string]) {
				o.Client.PipelineMultiplex = -1
				o.Timeout = 5 * time.Second
			})
			p.set(t, "k", "v")
			left := 0
			for i := range 5 {
				redistest.Do(t, admin, "CLIENT", "PAUSE", "200", "WRITE")
				wait := async(func() {
					c, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
					defer cancel()
					if err := p.Set(c, "impatient", "v"); errors.Is(err, context.DeadlineExceeded) {
						left++
					} else if err != nil {
						t.Errorf("the impatient one: %v", err)
					}
				})
				time.Sleep(20 * time.Millisecond)
				if err := p.Set(ctx, "patient", fmt.Sprint(i)); err != nil {
					t.Errorf("the patient one: %v", err)
				}
				wait()
			}
			if left == 0 {
				t.Error("nobody left: the test proves nothing")
			}
		})
	}
}

// The ends that callers set themselves say nothing about Redis, however many there
// are, and come on time, also where a connection has to be made.
func TestCallersOwnEndsOpenNoBreaker(t *testing.T) {
	for _, mode := range []invalidate.Mode{invalidate.Off, invalidate.PubSub, invalidate.Tracking} {
		for _, dead := range []bool{false, true} {
			if dead && mode == invalidate.Tracking { // the stream is the first to dial, and others wait for it
				continue
			}
			t.Run(fmt.Sprintf("%v, connections are dead: %t", mode, dead), func(t *testing.T) {
				s := redistest.Real(t)
				admin := redistest.Client(t, s)
				p := join(t, s, mode, func(o *StoreOptions, c *Options[string, string]) { o.Timeout = 30 * time.Second })
				p.set(t, "k", "v")
				if dead {
					redistest.Do(t, admin, "CLIENT", "KILL", "TYPE", "normal")
				}
				s.Signal(syscall.SIGSTOP)
				defer s.Signal(syscall.SIGCONT)
				began := time.Now()
				for i := range 6 * breakAfter {
					var c context.Context
					var cancel context.CancelFunc
					if i%2 == 0 {
						c, cancel = context.WithTimeout(ctx, 5*time.Millisecond)
					} else {
						c, cancel = context.WithCancel(ctx)
						time.AfterFunc(5*time.Millisecond, cancel)
					}
					switch err := p.Set(c, key(i), "v"); {
					case err == nil || errors.Is(err, ErrCut):
						t.Errorf("got %v", err)
					case !errors.Is(err, c.Err()) && !dead:
						t.Errorf("got %v, want %v", err, c.Err())
					}
					cancel()
				}
				if took := time.Since(began); took > 5*time.Second {
					t.Errorf("they took %v", took)
				}
			})
		}
	}
}
