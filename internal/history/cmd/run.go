//go:build unix

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/internal/fleet"
	"github.com/flipcache/flipcache/internal/history"
	"github.com/flipcache/flipcache/internal/history/client"
	"github.com/flipcache/flipcache/internal/judge"
	"github.com/flipcache/flipcache/invalidate"
)

// quietTime is how long all is quiet before the tiers are compared with Redis.
const quietTime = 1500 * time.Millisecond

// run has workers run t, and returns what they did.
func run(ctx context.Context, o options, t trial, redis fleet.Redis) (ops []history.Op, did operator, err error) {
	dir, err := os.MkdirTemp("", "flipcache-history-")
	if err != nil {
		return nil, did, err
	}
	defer os.RemoveAll(dir)
	const most = 5 // operations that one call is written down as
	told := own{Name: fmt.Sprintf("history-%d", time.Now().UnixNano()), Dir: dir, Clients: o.clients, Rate: o.rate, Mode: t.Variant.String(), Acked: t.Acked}
	told.Capacity = most*int(t.duration.Seconds()+1)*o.clients*o.rate + 10_000
	config := fleet.Config{
		Workers: o.workers, Keys: 1, Variant: t.Variant.String(), Duration: t.duration,
		Chaos: t.chaos, Seed: o.seed,
	}
	if config.Own, err = json.Marshal(told); err != nil {
		return nil, did, err
	}
	if t.Lease {
		config.MaxStaleness = client.Lease
	}
	if t.Mode == invalidate.Off && t.as == nil {
		config.LocalTTL = client.LocalTTL
	}
	var failed error // of the operator
	began := func() (ended func()) { return func() {} }
	if t.Cluster && t.chaos {
		began = func() func() {
			stop, err := operate(ctx, o, t, redis.Cluster, told)
			if err != nil {
				failed = err
				return func() {}
			}
			return func() { did, failed = stop() }
		}
	}
	_, err = fleet.Run{Config: config, Redis: redis, Faults: fleet.Links, Began: began, After: func(ctx context.Context, c fleet.Crew) error {
		if failed != nil {
			return failed
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(quietTime):
		}
		if _, err := c.Ask(ctx, restLine); err != nil {
			return err
		}
		truth, err := truth(ctx, redis.Client, told.Name, dir)
		ops = truth
		return err
	}}.Do(ctx)
	if err != nil {
		return nil, did, err
	}
	for i := range o.workers {
		log, err := history.OpenLog(logPath(dir, i), told.Capacity)
		if err != nil {
			return nil, did, err
		}
		ops = append(ops, log.Ops()...)
		log.Close()
	}
	return ops, did, nil
}

// truth asks Redis itself, past the library, for what the workers read at last.
func truth(ctx context.Context, o rueidis.ClientOption, name, dir string) (ops []history.Op, err error) {
	t, err := history.OpenTickets(filepath.Join(dir, "writes"))
	if err != nil {
		return nil, err
	}
	defer t.Close()
	admin, err := rueidis.NewClient(o)
	if err != nil {
		return nil, err
	}
	defer admin.Close()
	return client.Truth(t, judge.Now, func(key int32) (value int64, there bool, err error) {
		value, err = admin.Do(ctx, admin.B().Get().Key(name+":"+strconv.Itoa(int(key))).Build()).AsInt64()
		if rueidis.IsRedisNil(err) {
			return 0, false, nil
		}
		return value, true, err
	})
}
