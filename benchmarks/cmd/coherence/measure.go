//go:build unix

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/internal/fleet"
	"github.com/flipcache/flipcache/internal/redisserver"
)

// A setting is how a side is run.
type setting struct {
	duration time.Duration
	reads    int // a second, in each worker; 0: as many as it can
	faults   bool
}

// A measure is what came of it.
type measure struct {
	reads, stale     uint64
	calls, failed    uint64 // reads and writes
	perSecond        float64
	age              *hdrhistogram.Histogram // of stale reads, in µs
	hitRate          float64
	commands         float64 // of Redis, a read
	left, unreadable int     // of the workers' entries
}

// measure runs a side on a server of its own.
func (p plan) measure(ctx context.Context, s side, how setting, kind *string) (m measure, err error) {
	server, err := redisserver.Start()
	if err != nil {
		return m, err
	}
	defer server.Close()
	*kind = server.Kind
	var before, after stats
	var errBefore, errAfter error
	outcome, err := fleet.Run{
		Config: fleet.Config{
			Workers: p.workers, Keys: p.keys, Variant: s.name, MaxStaleness: p.lease, Duration: how.duration, LocalTTL: p.localTTL,
			Chaos: how.faults, Tolerant: true, Reads: how.reads, Writes: p.writes, Seed: p.seed,
		},
		Redis:   fleet.Redis{Client: server.ClientOption(), Pid: server.Pid()},
		Compare: how.reads > 0,
		Began: func() func() {
			before, errBefore = readStats(ctx, server)
			return func() { after, errAfter = readStats(ctx, server) }
		},
	}.Do(ctx)
	if err = errors.Join(err, errBefore, errAfter); err != nil {
		return m, err
	}
	m.left, m.unreadable, m.age = outcome.Left, outcome.Unreadable, newAges()
	for _, w := range outcome.Results {
		m.reads += w.Reads
		m.stale += w.Stale
		m.failed += w.Errors
		m.calls += w.Reads + w.Writes + w.Errors
		m.perSecond += float64(w.Reads) / w.Elapsed.Seconds()
		var ages hdrhistogram.Snapshot
		if err := json.Unmarshal(w.Measured, &ages); err != nil {
			return m, err
		}
		m.age.Merge(hdrhistogram.Import(&ages))
	}
	if m.reads == 0 {
		return m, errors.New("no read was answered")
	}
	// What Redis was asked for and did not answer may be more than was answered.
	m.hitRate = max(0, 1-float64(after.gets-before.gets)/float64(m.reads))
	m.commands = float64(after.commands-before.commands) / float64(m.reads)
	return m, nil
}

// stats are a server's own counters.
type stats struct{ commands, gets uint64 }

// readStats reads them on a connection of its own: faults kill those that last.
func readStats(ctx context.Context, server *redisserver.Server) (s stats, err error) {
	c, err := rueidis.NewClient(server.ClientOption())
	if err != nil {
		return s, err
	}
	defer c.Close()
	info, err := c.Do(ctx, c.B().Info().Section("stats", "commandstats").Build()).ToString()
	if err != nil {
		return s, err
	}
	return parseStats(info)
}

// parseStats sums all commands, and those with which the peers read a value.
func parseStats(info string) (s stats, err error) {
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		var into *uint64
		switch name {
		case "total_commands_processed":
			into = &s.commands
		case "cmdstat_get", "cmdstat_mget":
			into = &s.gets
			value, _, _ = strings.Cut(strings.TrimPrefix(value, "calls="), ",")
		default:
			continue
		}
		n, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			return s, fmt.Errorf("INFO: %q: %w", line, err)
		}
		*into += n
	}
	if s.commands == 0 {
		return s, errors.New("INFO has no total_commands_processed")
	}
	return s, nil
}

// meter keeps the ages of stale reads.
type meter struct{ age *hdrhistogram.Histogram }

func newMeter() *meter { return &meter{newAges()} }

func newAges() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, int64(time.Hour/time.Microsecond), 3)
}

func (*meter) Start()                                {}
func (*meter) Read(time.Duration, bool) (local bool) { return false }
func (m *meter) Stale(age time.Duration, _ bool) {
	m.age.RecordValue(max(1, age.Microseconds()))
}
func (m *meter) End() any { return m.age.Export() }
