package redisserver

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redis/rueidis"
)

func startCluster(t *testing.T) *Cluster {
	t.Helper()
	needServer(t)
	began := time.Now()
	c, err := StartCluster(3, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	t.Logf("ready after %v", time.Since(began))
	return c
}

func clusterClient(t *testing.T, c *Cluster) rueidis.Client {
	t.Helper()
	cl, err := rueidis.NewClient(c.ClientOption())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func TestClusterMovesSlotsAndFailsOver(t *testing.T) {
	c := startCluster(t)
	cl := clusterClient(t, c)
	ctx := context.Background()
	set := func(v string) {
		t.Helper()
		for i := range 50 {
			k := fmt.Sprintf("{t}:%d", i)
			if err := until(10*time.Second, "a write", func() bool { return cl.Do(ctx, cl.B().Set().Key(k).Value(v).Build()).Error() == nil }); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := func(v string) {
		t.Helper()
		for i := range 50 {
			if got, err := cl.Do(ctx, cl.B().Get().Key(fmt.Sprintf("{t}:%d", i)).Build()).ToString(); err != nil || got != v {
				t.Fatalf("got %q, %v, want %q", got, err, v)
			}
		}
	}
	set("1")
	const slot = 15891 // of {t}
	owner := c.Owner(slot)
	to := c.Nodes[0]
	if owner == nil || owner == to {
		t.Fatalf("slot %d is owned by %v", slot, owner)
	}
	if err := c.MoveSlot(slot, to); err != nil {
		t.Fatal(err)
	}
	want("1")
	if got := c.Owner(slot); got != to {
		t.Fatalf("the slot is at %s", got.Addr)
	}
	began := time.Now()
	promoted, err := c.Failover(to)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("failed over after %v", time.Since(began))
	want("1")
	if err := c.AwaitReady(); err != nil { // the one that was master follows
		t.Fatal(err)
	}
	promoted.Kill()
	began = time.Now()
	if err := c.AwaitMaster(to); err != nil {
		t.Fatal(err)
	}
	t.Logf("took over from a dead master after %v", time.Since(began))
	set("2")
	want("2")
	added, err := c.AddMaster()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.MoveSlot(slot, added); err != nil {
		t.Fatal(err)
	}
	want("2")
}
