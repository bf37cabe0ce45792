package hybrid

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flipcache/flipcache/invalidate"
)

// odd is a server that answers sensibly, but for one command of each test: the
// position-th after it was armed gets a reply of its own.
type odd struct {
	addr  string
	count atomic.Int64 // of commands since it was armed
	arms  atomic.Pointer[struct {
		position int64
		reply    string
	}]
}

func newOdd(t testing.TB) *odd {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := &odd{addr: l.Addr().String()}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go o.serve(c)
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return o
}

func (o *odd) serve(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	queued := -1 // since MULTI; -1: none
	for {
		args, err := readCommand(r)
		if err != nil {
			return
		}
		name := strings.ToUpper(args[0])
		reply := map[string]string{
			"HELLO": "%4\r\n$5\r\nproto\r\n:3\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n",
			"GET":   "$1\r\nv\r\n", "PTTL": ":1000\r\n", "EXISTS": ":1\r\n", "UNLINK": ":1\r\n", "PUBLISH": ":1\r\n", "TIME": "*2\r\n$1\r\n1\r\n$1\r\n1\r\n",
			"SCAN": "*2\r\n$1\r\n0\r\n*1\r\n$3\r\nn:k\r\n", "EVALSHA": "*1\r\n:1\r\n", "EVAL": "*1\r\n:1\r\n", "PING": "+PONG\r\n",
		}[name]
		switch {
		case name == "EVALSHA" && strings.HasPrefix(args[3], "flipcache#process"):
			reply = ":1\r\n"
		case name == "MULTI":
			queued = 0
			reply = "+OK\r\n"
		case name == "EXEC":
			reply = "*" + strconv.Itoa(queued) + "\r\n" + strings.Repeat("+OK\r\n", queued)
			queued = -1
		case queued >= 0:
			queued++
			reply = "+QUEUED\r\n"
		case reply == "":
			reply = "+OK\r\n"
		}
		if a := o.arms.Load(); a != nil && name != "HELLO" && name != "CLIENT" && name != "PING" && o.count.Add(1)-1 == a.position {
			reply = a.reply
		}
		if _, err := io.WriteString(c, reply); err != nil {
			return
		}
	}
}

// Whatever a server, or a proxy before it, answers to any command of any method:
// the method returns, nothing panics, and afterwards all is as before.
func TestRepliesThatNobodyExpectsHarmNothing(t *testing.T) {
	replies := []string{
		"_\r\n", "$-1\r\n", "*-1\r\n", "*0\r\n", "*1\r\n_\r\n", "*3\r\n:0\r\n_\r\n_\r\n", "*2\r\n:0\r\n:7\r\n", "*3\r\n:0\r\n$1\r\nx\r\n$1\r\nx\r\n", "%0\r\n", "~0\r\n",
		":0\r\n", ":-1\r\n", ":-2\r\n", ":-9223372036854775808\r\n", ":9223372036854775807\r\n", ",1.5\r\n", "#t\r\n", "(123456789012345678901234567890\r\n",
		"+\r\n", "+QUEUED\r\n", "$0\r\n\r\n", "$4\r\nnull\r\n", "=5\r\ntxt:v\r\n", "-\r\n", "-ERR no\r\n", "-NOPERM no\r\n", "-MOVED 1 127.0.0.1:1\r\n", "-NOSCRIPT no\r\n", "-EXECABORT no\r\n", "-LOADING no\r\n",
	}
	for _, mode := range []invalidate.Mode{invalidate.Off, invalidate.Tracking} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			server := newOdd(t)
			so := StoreOptions{Invalidation: mode, Timeout: 2 * time.Second, Announce: mode == invalidate.Tracking}
			so.Client.InitAddress, so.Client.ForceSingleClient = []string{server.addr}, true
			st, err := Open(ctx, so)
			if err != nil {
				t.Fatal(err)
			}
			defer st.Close()
			p := process{newOn(t, st, "n", Options[string, string]{TTL: time.Minute, RefreshTTLOnGet: true, NegativeTTL: time.Minute}), st}
			methods := allMethods(p)
			methods["SetMany"] = func(ctx context.Context) error { return p.SetMany(ctx, map[string]string{"k": "v", "l": "v"}) }
			methods["Check"] = func(ctx context.Context) error { _, err := st.Check(ctx); return err }
			for name, op := range methods {
				for position := range int64(9) {
					for _, reply := range replies {
						p.tier.Take()
						server.count.Store(0)
						server.arms.Store(&struct {
							position int64
							reply    string
						}{position, reply})
						within(t, 10*time.Second, fmt.Sprintf("%s, where reply %d is %q", name, position, reply), func() {
							limit := 50 * time.Millisecond // Update may go on asking
							if name == "Check" {
								limit /= 10 // it waits for what this server does not push
							}
							c, cancel := context.WithTimeout(ctx, limit)
							defer cancel()
							op(c)
						})
					}
					if server.count.Load() <= position { // it sends no more
						break
					}
				}
			}
			server.arms.Store(nil)
			eventually(t, "all is as before", func() bool {
				v, err := p.Fresh().Get(ctx, "k")
				return err == nil && v == "v" && p.Set(ctx, "k", "v") == nil
			})
		})
	}
}
