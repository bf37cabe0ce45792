//go:build unix

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/flipcache/flipcache/internal/fleet"
	"github.com/flipcache/flipcache/internal/history"
	"github.com/flipcache/flipcache/internal/history/client"
	"github.com/flipcache/flipcache/internal/redisserver"
)

// A trial is a variant that is run and judged.
type trial struct {
	client.Variant
	chaos    bool
	duration time.Duration
	as       *client.Variant // whose promises it is judged by; nil: its own
	without  *defence        // nil: the library as it is
}

func (t trial) String() string {
	s := t.Variant.String()
	if t.without != nil {
		s += " without " + t.without.name
	}
	return s
}

// Without faults less has to be tried; a fault that is put in shows soon.
const (
	calmShare = 3
	shortRun  = 20 * time.Second
)

// plan returns what o asks for.
func plan(o options) (trials []trial, err error) {
	if o.all {
		return planAll(o)
	}
	t := trial{chaos: o.chaos, duration: o.duration}
	if !o.chaos {
		t.duration = max(time.Second, o.duration/calmShare)
	}
	if o.as != "" {
		as, err := client.ParseVariant(o.as)
		if err != nil {
			return nil, err
		}
		t.as = &as
	}
	if o.without != "" {
		d, err := defenceNamed(o.without)
		if err != nil {
			return nil, err
		}
		t.without = &d
	}
	for name := range strings.SplitSeq(o.modes, ",") {
		if t.Variant, err = client.ParseVariant(name); err != nil {
			return nil, err
		}
		trials = append(trials, t)
	}
	return trials, nil
}

func planAll(o options) (trials []trial, err error) {
	var failed error
	add := func(names string, f func(*trial)) {
		for name := range strings.SplitSeq(names, ",") {
			v, err := client.ParseVariant(name)
			if err != nil {
				failed = err
			}
			t := trial{Variant: v, duration: o.duration / calmShare}
			f(&t)
			trials = append(trials, t)
		}
	}
	const standalone = "off,pubsub,tracking,pubsub+lease,tracking+lease,pubsub+acked,tracking+acked"
	add(standalone, func(*trial) {})
	add(standalone, func(t *trial) { t.chaos, t.duration = true, o.duration })
	add("tracking+cluster,tracking+lease+cluster", func(t *trial) { t.chaos, t.duration = true, o.duration })
	as, err := client.ParseVariant("pubsub+lease")
	if err != nil {
		return nil, err
	}
	add("off", func(t *trial) { t.as, t.duration = &as, 2*time.Second })
	for _, d := range defences {
		add(d.seenIn, func(t *trial) { t.without, t.chaos, t.duration = &d, d.chaos, shortRun })
	}
	return trials, failed
}

// A lab has the servers.
type lab struct {
	o      options
	log    io.Writer
	server *redisserver.Server

	cluster *redisserver.Cluster // nil: none was needed yet
}

func newLab(o options, log io.Writer) (*lab, error) {
	s, err := redisserver.Start()
	return &lab{o: o, log: log, server: s}, err
}

func (l *lab) close() {
	l.server.Close()
	if l.cluster != nil {
		l.cluster.Close()
	}
}

// try runs t and judges it. What breaks a promise is kept.
func (l *lab) try(ctx context.Context, t trial) ([]row, error) {
	began := time.Now()
	dir, err := l.artifacts()
	if err != nil {
		return nil, err
	}
	var rows []row
	if t.without != nil {
		rows, err = t.without.run(ctx, append(l.args(t), "-out", dir), l.o.seed)
	} else {
		var r row
		r, err = l.run(ctx, t, dir)
		rows = []row{r}
	}
	if err != nil {
		return nil, err
	}
	broken := 0
	for i := range rows {
		rows[i].Elapsed = time.Since(began)
		broken += len(rows[i].Broken)
	}
	if broken == 0 && l.o.out == "" {
		os.RemoveAll(dir)
	}
	fmt.Fprintf(l.log, "%v: %d operations, %d broken promises, %v\n", t, rows[0].Operations, broken, time.Since(began).Round(time.Second))
	return rows, nil
}

// args are those of a command that runs t with the library that it was built with.
func (l *lab) args(t trial) []string {
	duration := t.duration
	if !t.chaos {
		duration *= calmShare
	}
	return []string{"-mode", t.Variant.String(), "-duration", duration.String(), "-chaos=" + strconv.FormatBool(t.chaos),
		"-workers", strconv.Itoa(l.o.workers), "-clients", strconv.Itoa(l.o.clients), "-rate", strconv.Itoa(l.o.rate)}
}

func (l *lab) run(ctx context.Context, t trial, dir string) (r row, err error) {
	if t.Acked {
		if err := fleet.Aged(ctx, l.server.ClientOption()); err != nil {
			return r, err
		}
	}
	redis := fleet.Redis{Client: l.server.ClientOption(), Pid: l.server.Pid()}
	if t.Cluster {
		if l.cluster == nil {
			if l.cluster, err = redisserver.StartCluster(3, 1); err != nil {
				return r, err
			}
		}
		redis = fleet.Redis{Client: l.cluster.ClientOption(), Cluster: l.cluster}
	}
	ops, did, err := run(ctx, l.o, t, redis)
	if err != nil {
		return r, err
	}
	if t.Cluster && t.chaos {
		fmt.Fprintf(l.log, "%v: %d masters killed, %d failovers, %d slots moved\n", t, did.Kills, did.Failovers, did.Moves)
	}
	rules := t.Rules()
	if t.as != nil {
		rules = t.as.Rules()
	}
	if r, err = evaluate(ops, rules, dir); err != nil {
		return r, err
	}
	r.Variant, r.Faults = t.Variant.String(), t.chaos
	if t.as != nil {
		r.As = t.as.String()
	}
	return r, keep(dir, &r, history.ByKey(ops, afterStop))
}

// artifacts returns the folder for what is kept.
func (l *lab) artifacts() (string, error) {
	if l.o.out == "" {
		return os.MkdirTemp("", "flipcache-broken-")
	}
	return l.o.out, os.MkdirAll(l.o.out, 0o755)
}
