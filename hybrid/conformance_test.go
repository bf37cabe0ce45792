package hybrid

import (
	"strings"
	"testing"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/internal/redisserver"
	"github.com/flipcache/flipcache/internal/redistest"
	"github.com/flipcache/flipcache/invalidate"
)

// The servers that caches of many processes must agree on. To judge another, add a
// line.
var servers = []struct {
	name  string
	start func(*testing.T) redistest.Server
	modes []invalidate.Mode
}{
	{"miniredis", func(t *testing.T) redistest.Server { return redistest.Embedded(t) }, []invalidate.Mode{invalidate.PubSub}},
	{"redis-server", func(t *testing.T) redistest.Server { return redistest.Real(t) }, invalidating},
	{"cluster", func(t *testing.T) redistest.Server {
		c := redistest.Cluster(t)
		for _, s := range c.Nodes { // nobody takes over because a machine is busy
			patient(t, s, "CONFIG", "SET", "cluster-node-timeout", "30000")
		}
		return c
	}, invalidating},
	{"sentinel", func(t *testing.T) redistest.Server {
		s := redistest.Sentinel(t, nil)
		for _, one := range s.Sentinels {
			patient(t, one, "SENTINEL", "SET", redisserver.MasterSet, "down-after-milliseconds", "30000")
		}
		return s
	}, invalidating},
}

func patient(t *testing.T, s *redisserver.Server, command ...string) {
	t.Helper()
	if _, err := s.Do(command...); err != nil {
		t.Fatal(err)
	}
}

// What every server has to keep, in each of its modes.
var conformance = []struct {
	name  string
	check func(*testing.T, redistest.Server, invalidate.Mode)
	real  bool // miniredis does not do what it needs
}{
	{"every writing method is heard by other processes", everyWritingMethodIsHeard, true},
	{"a process reads its own writes", aProcessReadsItsOwnWrites, false},
	{"reads of one process never step back", readsNeverStepBack, true},
	{"a random fleet agrees", func(t *testing.T, s redistest.Server, m invalidate.Mode) { randomizedFleet(t, s, m, false) }, true},
	{"acknowledged writes were heard when they return", ackedIsSeen, true}, // the last but one: servers have to be some seconds old
	{"methods work", func(t *testing.T, s redistest.Server, m invalidate.Mode) { methodsWork(t, openStore(t, s, m), "n") }, false},
}

func TestConformance(t *testing.T) {
	for _, server := range servers {
		t.Run(server.name, func(t *testing.T) {
			t.Parallel()
			s := server.start(t)
			for _, mode := range server.modes {
				for _, c := range conformance {
					if c.real && server.name == "miniredis" {
						continue
					}
					t.Run(mode.String()+", "+c.name, func(t *testing.T) {
						everywhere(t, redistest.Client(t, s), "FLUSHALL")
						c.check(t, s, mode)
						if s, ok := s.(*redisserver.Sentinel); ok && s.Master() != s.Servers[0] {
							t.Errorf("the sentinels failed over meanwhile: the test proves nothing")
						}
					})
				}
			}
		})
	}
}

// everywhere runs a command on every server that takes it: replicas do not take all.
func everywhere(t testing.TB, admin rueidis.Client, command ...string) {
	t.Helper()
	for _, node := range admin.Nodes() {
		err := node.Do(ctx, node.B().Arbitrary(command...).Build()).Error()
		if err != nil && !strings.Contains(err.Error(), "READONLY") {
			t.Fatalf("%q: %v", command, err)
		}
	}
}
