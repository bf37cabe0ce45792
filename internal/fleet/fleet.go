//go:build unix

// Package fleet runs worker processes that share one Redis, each with a cache of
// its own, and has every read of theirs judged (package judge), while links,
// processes and the server fail where that is asked for. The demo
// (examples/workers) and the benchmark of coherence are made of it.
//
// The program that calls Run is started again for each worker, and calls Work
// where IsWorker says so; one whose workers do something else calls Serve and
// gives Run an After. Parent and worker speak by the worker's standard input
// and output, a line each: the config goes in, "ready" comes out; "go" goes in,
// the result comes out; "versions" goes in, and what the worker reads of each
// key comes out. When its input ends, so does a worker.
package fleet

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"time"

	"github.com/redis/rueidis"
)

// A Config is what one worker is told.
type Config struct {
	Worker, Workers, Keys int
	Name                  string // of the cache, fresh for each run
	Variant               string // what is run; the program's own matter
	Addr                  []string
	Single                bool
	MasterSet             string            // Addr are sentinels, who know it by this name; "": they are none
	Links                 map[string]string // where each server is reached; nil: where it says
	Refereed              bool              // Redis may lose writes: see judge.Table.Looks
	Duration, LocalTTL    time.Duration
	MaxStaleness, Timeout time.Duration // 0: none, the cache's own
	Chaos                 bool
	Tolerant              bool // reads and writes that fail are counted, and end nothing; as with Chaos
	Reads, Writes         int  // a second; Reads 0: as many as it can
	ValueSize             int
	Seed                  uint64
	Trace                 string
	LieEvery              int             // tests only: an old value is reported every so many reads
	Own                   json.RawMessage // what else the program tells its workers
}

// A Cache is what a worker takes part with. A goroutine reads while another
// writes.
type Cache interface {
	// Get returns the version that is stored under key.
	Get(ctx context.Context, key string) (version uint64, err error)
	// Set stores a version under key. Where it may yet happen, or has happened,
	// though it failed, the error is hybrid.ErrOutcomeUnknown.
	Set(ctx context.Context, key string, version uint64) error
	// SetMany stores one version under each of the keys.
	SetMany(ctx context.Context, keys []string, version uint64) error
	Close()
}

// A Meter measures beside the judge, for the goroutine that reads.
type Meter interface {
	// Start is called when the run begins.
	Start()
	// Read is told of every read; ok: it was answered. It says whether that was by
	// the local tier.
	Read(took time.Duration, ok bool) (local bool)
	// Stale is told of every stale read's age.
	Stale(age time.Duration, local bool)
	// End returns what the parent gets, as JSON.
	End() any
}

// An Opener makes what a worker needs.
type Opener func(context.Context, Config) (Cache, Meter, error)

// A Result is what one worker did.
type Result struct {
	Reads, Stale, AgeLowerBounds uint64
	Writes, Unknown, Lies        uint64
	Errors                       uint64        // reads and writes that failed
	NotMended                    time.Duration // the worst age after the chaos
	Elapsed                      time.Duration
	Measured                     json.RawMessage // what its Meter's End returned
}

// ClientOption returns what a rueidis client needs.
func (c Config) ClientOption() rueidis.ClientOption {
	o := rueidis.ClientOption{InitAddress: c.Addr, ForceSingleClient: c.Single, DisableCache: c.Single}
	o.Sentinel.MasterSet = c.MasterSet
	if c.Links != nil {
		o.DialCtxFn = func(ctx context.Context, addr string, d *net.Dialer, _ *tls.Config) (net.Conn, error) {
			link, ok := c.Links[addr]
			if !ok {
				return nil, fmt.Errorf("no link leads to %s", addr)
			}
			return d.DialContext(ctx, "tcp", link)
		}
	}
	return o
}

// firstVersion is what every key has at the beginning.
const firstVersion = 1

// keyName is the name of a key in one of its generations: one whose write had an
// unknown outcome is given up for a fresh one.
func keyName(key int, generation uint64) string { return fmt.Sprintf("%d.%d", key, generation) }

// redisKey is where a cache of the name keeps it.
func redisKey(name string, key int, generation uint64) string {
	return name + ":" + keyName(key, generation)
}
