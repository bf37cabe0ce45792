// Package hybridtest gives the tests of those who use package hybrid a Store,
// with no Redis to install:
//
//	store := hybridtest.NewStore(t)
//	prices, err := hybrid.New(store, "prices", hybrid.Options[string, int]{})
//
// The Store works on a miniredis inside the test's process, which ends with the
// test. TTLs pass there as they do elsewhere, in steps of 100 ms. To see what
// several processes do, start a Server and open a Store on it for each.
//
// It is an imitation of Redis: it does not evict, it has no Cluster, and Keys,
// Count and Clear miss keys with a newline and cannot take names that are no
// valid UTF-8.
package hybridtest

import (
	"context"
	"testing"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/hybrid"
	"github.com/flipcache/flipcache/internal/redisserver"
	"github.com/flipcache/flipcache/invalidate"
)

// NewStore returns a Store on a server of its own, in the given mode, or else
// invalidate.PubSub. Both are closed when the test ends; what goes wrong fails
// the test.
func NewStore(t testing.TB, mode ...invalidate.Mode) *hybrid.Store {
	t.Helper()
	return NewServer(t).NewStore(t, mode...)
}

// A Server is an empty miniredis that several Stores can share.
type Server struct{ s *redisserver.Server }

// NewServer starts a Server, which is closed when the test ends.
func NewServer(t testing.TB) *Server {
	t.Helper()
	s, err := redisserver.StartEmbedded()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return &Server{s}
}

// Addr returns the server's host:port, for a client of any kind.
func (s *Server) Addr() string { return s.s.Addr }

// Client returns what hybrid.StoreOptions.Client and rueidis.NewClient need to
// talk to the server.
func (s *Server) Client() rueidis.ClientOption { return s.s.ClientOption() }

// NewStore opens a Store on the server, as one more process would, in the given
// mode, or else invalidate.PubSub. It is closed when the test ends.
func (s *Server) NewStore(t testing.TB, mode ...invalidate.Mode) *hybrid.Store {
	t.Helper()
	o := hybrid.StoreOptions{Client: s.Client(), Invalidation: invalidate.PubSub}
	switch len(mode) {
	case 0:
	case 1:
		o.Invalidation = mode[0]
	default:
		t.Fatalf("hybridtest: %d modes for one Store", len(mode))
	}
	st, err := hybrid.Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return st
}
