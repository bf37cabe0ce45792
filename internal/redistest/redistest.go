// Package redistest gives tests the servers they need, and the client of
// another program beside the library's.
package redistest

import (
	"context"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/internal/redisserver"
)

// A Server is what clients talk to: one server, or several.
type Server interface {
	ClientOption() rueidis.ClientOption
}

// Real starts a redis-server for the test. Where none is installed the test is
// skipped and says so; in CI (CI=true) it fails instead.
func Real(t testing.TB, args ...string) *redisserver.Server {
	t.Helper()
	s, err := redisserver.Start(args...)
	return started(t, s, err)
}

// Cluster is Real for a Redis Cluster of three masters with a replica each.
func Cluster(t testing.TB, args ...string) *redisserver.Cluster {
	t.Helper()
	c, err := redisserver.StartCluster(3, 1, args...)
	return started(t, c, err)
}

// Masters is Real for a Redis Cluster of so many masters, without replicas.
func Masters(t testing.TB, n int) *redisserver.Cluster {
	t.Helper()
	c, err := redisserver.StartCluster(n, 0)
	return started(t, c, err)
}

// Sentinel is Real for a master, a replica and three sentinels; through is as for
// redisserver.StartSentinel.
func Sentinel(t testing.TB, through func(master string) (string, error), args ...string) *redisserver.Sentinel {
	t.Helper()
	s, err := redisserver.StartSentinel(1, through, args...)
	return started(t, s, err)
}

func started[S io.Closer](t testing.TB, s S, err error) S {
	t.Helper()
	if errors.Is(err, redisserver.ErrNotInstalled) {
		if os.Getenv("CI") == "true" {
			t.Fatal("no redis-server on PATH: CI needs one (make redis-server)")
		}
		t.Skip("no redis-server on PATH: this test needs a real one (make redis-server)")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// Embedded starts a miniredis for the test.
func Embedded(t testing.TB) *redisserver.Server {
	t.Helper()
	s, err := redisserver.StartEmbedded()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// Each runs test on a real redis-server and on miniredis. Where an int has 32
// bits it leaves out miniredis, whose integers are ints.
func Each(t *testing.T, test func(t *testing.T, s *redisserver.Server)) {
	t.Run("redis-server", func(t *testing.T) { test(t, Real(t)) })
	if strconv.IntSize == 64 {
		t.Run("miniredis", func(t *testing.T) { test(t, Embedded(t)) })
	}
}

// Client returns a client of s that has nothing to do with the library: it
// stands for another program, redis-cli, say.
func Client(t testing.TB, s Server) rueidis.Client {
	t.Helper()
	c, err := rueidis.NewClient(s.ClientOption())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// keyAt says where the key is in commands that tests use.
var keyAt = map[string]int{
	"GET": 1, "SET": 1, "DEL": 1, "UNLINK": 1, "EXISTS": 1, "PTTL": 1, "PEXPIRE": 1, "GETEX": 1, "APPEND": 1, "SETRANGE": 1,
	"PERSIST": 1, "GETDEL": 1, "GETSET": 1, "ZCARD": 1, "HSET": 1, "RPUSH": 1, "LPUSH": 1, "EVAL": 3,
}

// Do runs one command and returns its reply; an error fails the test, but for
// the reply "nil".
func Do(t testing.TB, c rueidis.Client, command ...string) rueidis.RedisMessage {
	t.Helper()
	cmd := c.B().Arbitrary(command...)
	if at := keyAt[strings.ToUpper(command[0])]; at > 0 && at < len(command) && c.Mode() == rueidis.ClientModeCluster {
		cmd = c.B().Arbitrary(command[:at]...).Keys(command[at]).Args(command[at+1:]...) // to its master
	}
	m, err := c.Do(context.Background(), cmd.Build()).ToMessage()
	if err != nil && !rueidis.IsRedisNil(err) {
		t.Fatalf("%q: %v", command, err)
	}
	return m
}
