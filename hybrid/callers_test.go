package hybrid

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/rueidis"

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

// A connection that another call has dialled, to a server that does not accept it or
// does not speak, is waited for until the caller's own end, by every method; and
// closing the Store ends that wait.
func TestCallersOwnEndComesWhileAnotherDials(t *testing.T) {
	for _, accepts := range []bool{false, true} {
		t.Run(fmt.Sprintf("it is accepted: %t", accepts), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { endsWhileAnotherDials(t, accepts) })
		})
	}
}

func endsWhileAnotherDials(t *testing.T, accepts bool) {
	const timeout, own = 10 * time.Second, 50 * time.Millisecond
	redis := miniredis.NewMiniRedis()
	defer redis.Close()
	var silent atomic.Bool
	var conns []net.Conn
	store, err := Open(ctx, StoreOptions{Timeout: timeout, Client: rueidis.ClientOption{
		InitAddress: []string{"redis"}, ForceSingleClient: true, PipelineMultiplex: -1,
		DialCtxFn: func(ctx context.Context, _ string, _ *net.Dialer, _ *tls.Config) (net.Conn, error) {
			switch {
			case !silent.Load():
				c, err := redis.Dial()
				conns = append(conns, c)
				return c, err
			case accepts:
				c, far := net.Pipe()
				conns = append(conns, far)
				return c, nil
			}
			<-ctx.Done()
			return nil, ctx.Err()
		},
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	p := process{newOn(t, store, "n", Options[string, string]{}), store}
	p.set(t, "k", "v")
	silent.Store(true)
	conns[0].Close()
	synctest.Wait()
	if err := p.Set(ctx, "k", "v"); !errors.Is(err, ErrOutcomeUnknown) {
		t.Errorf("by the dead connection: %v", err)
	}
	first := async(func() {
		if err := p.Set(ctx, "k", "v"); !errors.Is(err, ErrClosed) && !errors.Is(err, ErrOutcomeUnknown) {
			t.Errorf("who dials got %v", err)
		}
	})
	synctest.Wait()
	for name, op := range allMethods(p) {
		began := time.Now()
		c, cancel := context.WithTimeout(ctx, own)
		if err := op(c); name != "GetOrLoad" && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: got %v", name, err)
		}
		cancel()
		if took := time.Since(began); took > own {
			t.Errorf("%s took %v", name, took)
		}
	}
	began := time.Now()
	store.Close()
	first()
	if took := time.Since(began); took > own {
		t.Errorf("Close took %v", took)
	}
	for _, c := range conns {
		c.Close()
	}
}
