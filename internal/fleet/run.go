//go:build unix

package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/internal/judge"
)

// A Redis is where the workers find theirs.
type Redis struct {
	Client rueidis.ClientOption
	Pid    int // 0: not ours to stop
}

// A Run is one variant's: the workers that are started for it and that end with
// it.
type Run struct {
	// Config is that of all workers: Run sets Worker, Addr, Single and Name.
	Config
	Redis Redis
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
	r.Addr, r.Single = r.Redis.Client.InitAddress, r.Redis.Client.ForceSingleClient
	var ls links
	if r.Chaos {
		if ls, err = startLinks(r.Workers, r.Addr[0]); err != nil {
			return o, err
		}
		defer ls.stop()
	}
	var all []*process
	defer func() { stopAll(all) }()
	for i := range r.Workers {
		c := r.Config
		c.Worker, c.Tolerant = i, r.Tolerant || r.Chaos
		if r.Chaos {
			c.Addr, c.Single, c.Timeout = []string{ls[i].addr()}, true, faultTimeout
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
	if o.Results, err = r.work(ctx, all, ls); err != nil || !r.Compare {
		return o, err
	}
	if err := wait(ctx, quiet); err != nil {
		return o, err
	}
	return o, r.compare(ctx, &o, all, table)
}

// work has the workers work, under the chaos that was asked for, and returns
// their results when it is over.
func (r Run) work(ctx context.Context, all []*process, ls links) ([]Result, error) {
	if r.Began != nil {
		defer r.Began()()
	}
	if r.Chaos {
		admin, err := rueidis.NewClient(r.Redis.Client)
		if err != nil {
			return nil, err
		}
		defer admin.Close()
		chaotic, calm := context.WithCancel(ctx)
		faults := schedule(r.Seed, r.Workers, r.Duration, r.Redis.Pid != 0)
		over := make(chan struct{})
		defer func() {
			calm()
			<-over // before the workers are ended: one may be stopped
		}()
		go func() {
			defer close(over)
			chaos(chaotic, faults, ls, all, r.Redis.Pid, admin)
		}()
	}
	return ask[Result](ctx, all, goLine)
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
