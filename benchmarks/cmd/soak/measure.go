//go:build unix

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/flipcache/flipcache/hybrid"
	"github.com/flipcache/flipcache/internal/fleet"
	"github.com/flipcache/flipcache/internal/redisserver"
)

// A row is what came of a mode.
type row struct {
	mode
	length                       time.Duration
	lease                        time.Duration
	samples                      [][]sample // of each worker
	reads, writes, stale, failed uint64
	hits                         uint64
	worst                        time.Duration // age of a stale read
	left, unreadable             int           // of the workers' entries
	audit                        hybrid.AuditStats
}

// clocks is how far the judge's reading of two processes' clocks may be off.
const clocks = 5 * time.Millisecond

// measure runs a mode on a server of its own.
func (p plan) measure(ctx context.Context, m mode, kind *string) (r row, err error) {
	server, err := redisserver.Start()
	if err != nil {
		return r, err
	}
	defer server.Close()
	*kind = server.Kind
	os.Setenv(pauseVariable, p.pause().String())
	outcome, err := fleet.Run{
		Config: fleet.Config{
			Workers: p.workers, Keys: p.keys, Variant: m.name, MaxStaleness: p.lease, Duration: p.length(), LocalTTL: time.Minute,
			Chaos: !m.acked, Tolerant: true, Reads: p.reads, Writes: p.writes, ValueSize: valueSize, Seed: p.seed, LieEvery: p.lieEvery,
		},
		Redis:   fleet.Redis{Client: server.ClientOption(), Pid: server.Pid()},
		Compare: true,
	}.Do(ctx)
	if err != nil {
		return r, err
	}
	r = row{mode: m, length: p.length(), lease: p.lease, left: outcome.Left, unreadable: outcome.Unreadable}
	for _, w := range outcome.Results {
		var seen measured
		if err := json.Unmarshal(w.Measured, &seen); err != nil {
			return r, err
		}
		r.samples = append(r.samples, seen.Samples)
		r.reads += w.Reads
		r.writes += w.Writes
		r.stale += w.Stale
		r.failed += w.Errors
		r.hits += seen.Hits
		r.worst = max(r.worst, seen.Worst)
		r.audit.Checked += seen.Audit.Checked
		r.audit.Skipped += seen.Audit.Skipped
		r.audit.Under1s += seen.Audit.Under1s
		r.audit.Under5s += seen.Audit.Under5s
		r.audit.Under60s += seen.Audit.Under60s
		r.audit.Over60s += seen.Audit.Over60s
		r.audit.Worst = max(r.audit.Worst, seen.Audit.Worst)
	}
	return r, nil
}

// findings says what is not as it should be.
func (r row) findings() (all []string) {
	for i, samples := range r.samples {
		for _, g := range gauges {
			if t := g.trendOf(samples, r.length); !t.flat() {
				all = append(all, g.finding(i, t))
			}
		}
	}
	if r.reads == 0 || r.writes == 0 || r.hits == 0 || r.audit.Checked == 0 {
		all = append(all, fmt.Sprintf("%d reads, %d local hits, %d of them audited, %d writes: nothing was tried", r.reads, r.hits, r.audit.Checked, r.writes))
	}
	if r.worst > r.lease+clocks {
		all = append(all, fmt.Sprintf("a read returned what had been replaced %v before, the lease is %v", r.worst, r.lease))
	}
	if r.acked && r.stale > 0 {
		all = append(all, fmt.Sprintf("%d reads returned what an acknowledged write had replaced", r.stale))
	}
	if r.left > 0 || r.unreadable > 0 {
		all = append(all, fmt.Sprintf("when all was quiet, %d entries were not what Redis had, and %d keys could not be read", r.left, r.unreadable))
	}
	if r.audit.Worst > r.lease {
		all = append(all, fmt.Sprintf("the auditor found an entry that was stale for %v at least", r.audit.Worst))
	}
	return all
}
