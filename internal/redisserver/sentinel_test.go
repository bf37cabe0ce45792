package redisserver

import (
	"strings"
	"testing"
	"time"
)

func TestSentinelFailsOver(t *testing.T) {
	needServer(t)
	began := time.Now()
	s, err := StartSentinel(1, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	t.Logf("ready after %v", time.Since(began))
	old := s.Master()
	if old != s.Servers[0] {
		t.Fatalf("the master is at %q", s.MasterAddr())
	}
	began = time.Now()
	promoted, err := s.Failover()
	if err != nil {
		t.Fatal(err)
	}
	if promoted == old {
		t.Fatal("nobody else was promoted")
	}
	t.Logf("failed over after %v", time.Since(began))
	// The old one is a master for some seconds to come: sentinels demote it late.
	if m, err := old.Do("INFO", "replication"); err != nil {
		t.Fatal(err)
	} else if info, _ := m.ToString(); !strings.Contains(info, "role:master") {
		t.Errorf("the old master says %s", info)
	}
	old.Kill()

	killed, err := StartSentinel(1, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { killed.Close() })
	old = killed.Master()
	old.Kill()
	began = time.Now()
	if _, err := killed.AwaitMaster(func(at string) bool { return at != old.Addr }); err != nil {
		t.Fatal(err)
	}
	t.Logf("took over from a dead master after %v", time.Since(began))
}
