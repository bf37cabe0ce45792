//go:build unix

package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/internal/judge"
	"github.com/flipcache/flipcache/internal/redisserver"
)

// A Redis is where the workers find theirs.
type Redis struct {
	Client rueidis.ClientOption
	Pid    int // of the one server; 0: not ours to stop
	// Cluster and Sentinel are where it is several servers: ours to stop.
	Cluster  *redisserver.Cluster
	Sentinel *redisserver.Sentinel
}

// Kinds of faults.
const (
	Links   = "links"   // what happens to workers and their links
	Servers = "servers" // what happens to servers, where there are several
)

// A Run is one variant's: the workers that are started for it and that end with
// it.
type Run struct {
	// Config is that of all workers: Run sets Worker, Addr, Single and Name.
	Config
	Redis Redis
	// Faults is which kind of faults Chaos lets happen; "": all.
	Faults string
	// VersionOf reads the version from what Redis holds under a key: required where
	// Redis is several servers.
	VersionOf func([]byte) (uint64, error)
	// After is called when the workers have worked; then nothing is compared.
	After func(context.Context, Crew) error
	// Compare has each worker's entries compared with Redis in the end.
	Compare bool
	// Began is called when the workers have begun, and what it returns as soon
	// as they have ended; nil: nothing is.
	Began func() (ended func())
}

// An Outcome is what came of a Run.
type Outcome struct {
	Results []Result // a worker's each
	// Left is, with Compare, how many entries of the workers are not what Redis
	// has, when everything has been quiet for a while.
	Left int
	// Unreadable is how many of their keys could not be read then.
	Unreadable int
	// Promotions are when servers became masters, on the clock of package judge,
	// Lost is how many writes that they had acknowledged the failovers lost, as far
	// as can be seen; Kills and Moves are how many servers were killed and slots
	// moved.
	Promotions   []time.Duration
	Lost         uint64
	Kills, Moves int
}

const (
	// faultTimeout is the caches' Timeout while links fail.
	faultTimeout = time.Second
	// settle is how long the messages of the first writes have to arrive, so
	// that the run's are counted alone.
	settle = 100 * time.Millisecond
	// quiet is how long all is quiet before entries are compared with Redis.
	quiet = mendTime
)

// Do starts the workers, lets them work at the same time, and returns what came
// of it. None of them is left when it returns.
func (r Run) Do(ctx context.Context) (o Outcome, err error) {
	table, err := os.CreateTemp("", "flipcache-judge-")
	if err != nil {
		return o, err
	}
	defer table.Close()
	if err := os.Remove(table.Name()); err != nil { // the workers get it open
		return o, err
	}
	if err := table.Truncate(judge.Size(r.Keys)); err != nil {
		return o, err
	}
	r.Name = fmt.Sprintf("fleet-%d-%v", time.Now().UnixNano(), r.Variant)
	r.Addr, r.Single, r.MasterSet = r.Redis.Client.InitAddress, r.Redis.Client.ForceSingleClient, r.Redis.Client.Sentinel.MasterSet
	servers := r.Redis.several()
	if r.Refereed = servers != nil; r.Refereed {
		if err := servers.awaitReady(); err != nil { // a run before may have left them as they change roles
			return o, err
		}
	}
	var ls []links
	defer func() {
		for _, l := range ls {
			l.stop()
		}
	}()
	var all []*process
	defer func() { stopAll(all) }()
	for i := range r.Workers {
		c := r.Config
		c.Worker, c.Tolerant = i, r.Tolerant || r.Chaos
		if r.Chaos {
			l, err := startLinks(r.upstream(servers))
			if err != nil {
				return o, err
			}
			ls = append(ls, l)
			if c.Timeout = faultTimeout; servers == nil {
				c.Addr, c.Single = []string{l[0].addr()}, true
			} else {
				c.Links = l.addrs()
			}
		}
		if all, err = startOne(all, table, c); err != nil {
			return o, err
		}
	}
	if _, err := eachLine(ctx, all); err != nil { // ready
		return o, err
	}
	if err := wait(ctx, settle); err != nil {
		return o, err
	}
	if err := r.work(ctx, &o, servers, all, ls, table); err != nil {
		return o, err
	}
	if r.After != nil {
		return o, r.After(ctx, Crew{all})
	}
	if !r.Compare {
		return o, err
	}
	if err := wait(ctx, quiet); err != nil {
		return o, err
	}
	return o, r.compare(ctx, &o, all, table)
}

// upstream returns the addresses to which a worker has links.
func (r Run) upstream(servers several) (addrs []string) {
	if servers == nil {
		return r.Addr[:1]
	}
	for _, s := range servers.all() {
		addrs = append(addrs, s.Addr)
	}
	return addrs
}

// work has the workers work, under the chaos that was asked for, and adds to o what
// came of it when it is over.
func (r Run) work(ctx context.Context, o *Outcome, servers several, all []*process, ls []links, table *os.File) (err error) {
	if r.Began != nil {
		defer r.Began()()
	}
	if servers != nil {
		end, failed := r.referee(ctx, o, servers, table)
		if failed != nil {
			return failed
		}
		defer func() {
			if why := end(); err != nil && why != nil {
				err = fmt.Errorf("%w; the referee: %w", err, why)
			}
		}()
	}
	if r.Chaos {
		end, failed := r.letLoose(ctx, o, servers, all, ls)
		if failed != nil {
			return failed
		}
		defer func() { err = errors.Join(end(), err) }() // before the workers are ended: one may be stopped
	}
	o.Results, err = ask[Result](ctx, all, GoLine)
	return err
}

// referee has the judge's table agree with what several servers hold, until end is
// called.
func (r Run) referee(ctx context.Context, o *Outcome, servers several, table *os.File) (end func() (why error), err error) {
	ref := &referee{servers: servers, keys: r.Keys, name: r.Name, versionOf: r.VersionOf}
	if ref.table, err = judge.Open(table, r.Keys); err != nil {
		return nil, err
	}
	if r.Redis.Cluster != nil {
		if ref.client, err = rueidis.NewClient(r.Redis.Client); err != nil {
			ref.table.Close()
			return nil, err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	over := make(chan struct{})
	go func() {
		defer close(over)
		ref.run(ctx)
	}()
	return func() error {
		cancel()
		<-over
		if ref.client != nil {
			ref.client.Close()
		}
		ref.table.Close()
		o.Promotions, o.Lost = ref.promotions, ref.lost
		return ref.why
	}, nil
}

// letLoose lets the chaos begin. It is over, and all is well again, when end returns.
func (r Run) letLoose(ctx context.Context, o *Outcome, servers several, all []*process, ls []links) (end func() error, err error) {
	admin, err := rueidis.NewClient(r.Redis.Client)
	if err != nil {
		return nil, err
	}
	ctx, calm := context.WithCancel(ctx)
	h := hurt{links: ls, workers: all, server: r.Redis.Pid, killClients: func() { killAll(servers, admin) }}
	var wg sync.WaitGroup
	var failed error
	if r.Faults != Servers {
		wg.Go(func() { chaos(ctx, schedule(r.Seed, r.Workers, len(ls[0]), r.Duration, r.Redis.Pid != 0), h) })
	}
	if servers != nil && r.Faults != Links {
		op := &operator{servers: servers, cluster: r.Redis.Cluster, slots: slotsOf(r.Name, r.Keys)}
		wg.Go(func() {
			failed = op.run(ctx, eventsOf(r.Seed, r.Duration, r.Redis.Cluster != nil), r.Duration-chaosPauses)
			o.Kills, o.Moves = op.kills, op.moves
		})
	}
	return func() error {
		calm()
		wg.Wait()
		admin.Close()
		return failed
	}, nil
}

// killAll has the servers close all connections.
func killAll(servers several, admin rueidis.Client) {
	kinds := []string{"normal", "pubsub"}
	if servers == nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		for _, kind := range kinds {
			admin.Do(ctx, admin.B().Arbitrary("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes").Build())
		}
		return
	}
	var wg sync.WaitGroup
	for _, s := range servers.data() {
		wg.Go(func() {
			for _, kind := range kinds {
				if s.Running() {
					s.Do("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes") // who is stopped does it later
				}
			}
		})
	}
	wg.Wait()
}

// compare asks the workers for what they read of each key, and then a fresh one,
// which has no entries: what it reads is what Redis has.
func (r Run) compare(ctx context.Context, o *Outcome, all []*process, table *os.File) error {
	entries, err := ask[[]uint64](ctx, all, versionsLine)
	if err != nil {
		return err
	}
	c := r.Config
	c.Worker, c.Chaos = r.Workers, false
	fresh, err := startOne(nil, table, c)
	defer func() { stopAll(fresh) }()
	if err != nil {
		return err
	}
	if _, err := eachLine(ctx, fresh); err != nil { // ready
		return err
	}
	truth, err := ask[[]uint64](ctx, fresh, versionsLine)
	if err != nil {
		return err
	}
	for _, versions := range entries {
		for k, v := range versions {
			switch {
			case v == 0 || truth[0][k] == 0:
				o.Unreadable++
			case v != truth[0][k]:
				o.Left++
			}
		}
	}
	return nil
}

// startOne starts one more worker and tells it its config.
func startOne(all []*process, table *os.File, c Config) ([]*process, error) {
	p, err := start(table)
	if err != nil {
		return all, err
	}
	all = append(all, p)
	b, err := json.Marshal(c)
	if err != nil {
		return all, err
	}
	if err := say(p.in, string(b)); err != nil {
		return all, p.died(c.Worker)
	}
	return all, nil
}

// ask tells all the same and returns their answers.
func ask[T any](ctx context.Context, all []*process, line string) ([]T, error) {
	for i, p := range all {
		if err := say(p.in, line); err != nil {
			return nil, p.died(i)
		}
	}
	lines, err := eachLine(ctx, all)
	if err != nil {
		return nil, err
	}
	answers := make([]T, len(lines))
	for i, l := range lines {
		if err := json.Unmarshal([]byte(l), &answers[i]); err != nil {
			return nil, fmt.Errorf("worker %d said %.100q: %w", i, l, err)
		}
	}
	return answers, nil
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
