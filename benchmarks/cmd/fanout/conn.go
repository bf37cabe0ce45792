package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// patience is how long one reply, or all messages of a pass, may take.
const patience = time.Minute

// A conn speaks the protocol by hand: what it sends is prepared beforehand, and
// of what it reads only the bytes are compared or counted, so that this process
// leaves the processor to the server. It is for one goroutine.
type conn struct {
	net.Conn
	got []byte // scratch of ask
}

func dial(ctx context.Context, addr string) (*conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c}, nil
}

// command returns a command as it is sent.
func command(args ...string) []byte {
	b := fmt.Appendf(nil, "*%d\r\n", len(args))
	for _, a := range args {
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(a), a)
	}
	return b
}

// ask sends request and reads the reply, which must be want.
func (c *conn) ask(request, want []byte) error {
	if _, err := c.Write(request); err != nil {
		return err
	}
	if cap(c.got) < len(want) {
		c.got = make([]byte, len(want))
	}
	got := c.got[:len(want)]
	if n, err := io.ReadFull(c, got); err != nil {
		return fmt.Errorf("%w, after %q", err, got[:n])
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("got %q, want %q", got, want)
	}
	return nil
}

// settle sends a command whose reply has no fixed length, and returns it.
func (c *conn) settle(args ...string) (string, error) {
	c.SetReadDeadline(time.Now().Add(patience))
	defer c.SetReadDeadline(time.Time{})
	if _, err := c.Write(append(command(args...), command("PING")...)); err != nil {
		return "", err
	}
	const end = "+PONG\r\n"
	var reply []byte
	for b := make([]byte, 4096); !bytes.HasSuffix(reply, []byte(end)); {
		n, err := c.Read(b)
		if reply = append(reply, b[:n]...); err != nil {
			return "", fmt.Errorf("%s: %w, after %q", strings.Join(args, " "), err, reply)
		}
	}
	if reply[0] == '-' {
		return "", fmt.Errorf("%s: %s", strings.Join(args, " "), reply[1:len(reply)-len(end)])
	}
	return string(reply[:len(reply)-len(end)]), nil
}

// hear reads and discards until the read deadline passes, and adds to heard the
// number of bytes.
func (c *conn) hear(heard *atomic.Int64) error {
	for b := make([]byte, 4096); ; {
		n, err := c.Read(b)
		heard.Add(int64(n))
		if nerr := net.Error(nil); errors.As(err, &nerr) && nerr.Timeout() {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// cpu returns the processor time that the server has used since it started, in
// all its threads, by INFO: getrusage, in microseconds. /proc/<pid>/stat would
// say the same in ticks of 10 ms, and on Linux only.
func (c *conn) cpu() (time.Duration, error) {
	info, err := c.settle("INFO", "cpu")
	if err != nil {
		return 0, err
	}
	return parseCPU(info)
}

func parseCPU(info string) (time.Duration, error) {
	var sum float64
	for _, field := range []string{"used_cpu_user:", "used_cpu_sys:"} {
		_, rest, ok := strings.Cut(info, "\n"+field)
		digits, _, _ := strings.Cut(rest, "\r\n")
		seconds, err := strconv.ParseFloat(digits, 64)
		if !ok || err != nil {
			return 0, fmt.Errorf("INFO cpu has no %s in %q", field, info)
		}
		sum += seconds
	}
	return time.Duration(sum * float64(time.Second)), nil
}
