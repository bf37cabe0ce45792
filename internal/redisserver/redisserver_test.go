package redisserver

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"go.uber.org/goleak"
)

// rueidis' client for clusters has goroutines that sleep for some seconds, and end.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*call).DelayDo.func1"),
		goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*clusterClient)._refresh.func2"))
}

func ask(t *testing.T, s *Server) {
	t.Helper()
	c, err := rueidis.NewClient(s.ClientOption())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx := context.Background()
	if err := c.Do(ctx, c.B().Set().Key("k").Value("v").Px(200*time.Millisecond).Build()).Error(); err != nil {
		t.Fatal(err)
	}
	for limit := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if err := c.Do(ctx, c.B().Get().Key("k").Build()).Error(); rueidis.IsRedisNil(err) {
			return // TTLs pass
		}
		if time.Now().After(limit) {
			t.Fatal("a TTL of 200 ms has not passed in 10 s")
		}
	}
}

func needServer(t *testing.T) {
	t.Helper()
	switch {
	case Available():
	case os.Getenv("CI") == "true":
		t.Fatal("no redis-server on PATH: CI needs one (make redis-server)")
	default:
		t.Skip("no redis-server on PATH: this test needs a real one (make redis-server)")
	}
}

func TestServersAnswerAndEnd(t *testing.T) {
	embedded, err := StartEmbedded()
	if err != nil {
		t.Fatal(err)
	}
	ask(t, embedded)
	embedded.Close()
	embedded.Close()

	needServer(t)
	real, err := Start()
	if err != nil {
		t.Fatal(err)
	}
	ask(t, real)
	real.Close()
	if c, err := net.Dial("tcp", real.Addr); err == nil {
		c.Close()
		t.Error("the server listens after Close")
	}
}

// Two that choose the same free port at a time are not taken for one.
func TestAnothersServerIsNotTakenForOnesOwn(t *testing.T) {
	needServer(t)
	other, err := Start()
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	late := filepath.Join(t.TempDir(), "late") // it has not tried to listen when the other one answers
	if err := os.WriteFile(late, []byte("#!/bin/sh\nsleep 0.2\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("FLIPCACHE_REDIS_SERVER", late)
	if s, err := start([]string{"--port", strconv.Itoa(other.port)}); err == nil {
		t.Errorf("another's server at %s was taken for the one that was started", s.Addr)
		s.Close()
	}
}

func TestServerThatCannotStartSaysWhy(t *testing.T) {
	needServer(t)
	if _, err := Start("--nonsense", "yes"); err == nil {
		t.Error("no error")
	}
}
