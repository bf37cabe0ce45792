//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/redis/rueidis"
	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/flipcache/flipcache/internal/judge"
)

// runAll runs every mode that was asked for, on one server.
func runAll(ctx context.Context, o options, stderr io.Writer) (*report, error) {
	if o.trace != "" {
		_, keys, err := readTrace(o.trace)
		if err != nil {
			return nil, err
		}
		o.keys = keys
	}
	rd, err := server(o)
	if err != nil {
		return nil, err
	}
	defer rd.stop() // last of all: the workers' last commands need it
	run, err := variants(ctx, o, rd.client)
	if err != nil {
		return nil, err
	}
	if !o.json {
		fmt.Fprintf(stderr, "%s; %d workers, %d keys, local entries live %v in every mode; %v for each of %v\n",
			rd.kind, o.workers, o.keys, o.localTTL, o.duration, run)
	}
	r := &report{Chaos: o.chaos, Seed: o.seed, Server: rd.kind, Machine: machine(), Workers: o.workers, Keys: o.keys, LocalTTL: o.localTTL.Seconds() * 1000, Trace: o.trace}
	for _, v := range run {
		results, err := runVariant(ctx, o, rd, v, stderr)
		if err != nil {
			return nil, fmt.Errorf("%v: %w", v, err)
		}
		r.Runs = append(r.Runs, sum(v, results))
	}
	return r, nil
}

// A process is a worker as its parent sees it.
type process struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	log  tail
	done chan struct{} // its process was waited for
}

// runVariant starts the workers, lets them work at the same time, and returns
// their results. None of them is left when it returns.
func runVariant(ctx context.Context, o options, rd redis, v variant, stderr io.Writer) (results []result, err error) {
	table, err := os.CreateTemp("", "flipcache-judge-")
	if err != nil {
		return nil, err
	}
	defer table.Close()
	if err := os.Remove(table.Name()); err != nil { // the workers get it open
		return nil, err
	}
	if err := table.Truncate(judge.Size(o.keys)); err != nil {
		return nil, err
	}
	name := fmt.Sprintf("demo-%d-%v", time.Now().UnixNano(), v)
	var ls links
	var admin rueidis.Client
	if o.chaos {
		if ls, err = startLinks(o.workers, rd.client.InitAddress[0]); err != nil {
			return nil, err
		}
		defer ls.stop()
		if admin, err = rueidis.NewClient(rd.client); err != nil {
			return nil, err
		}
		defer admin.Close()
	}
	var all []*process
	defer func() { stopAll(all) }()
	for i := range o.workers {
		p, err := start(table)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
		c := config{
			Worker: i, Workers: o.workers, Keys: o.keys, Name: name, Mode: v.mode, MaxStaleness: v.lease,
			Addr: rd.client.InitAddress, Single: rd.client.ForceSingleClient, Duration: o.duration, LocalTTL: o.localTTL,
			Reads: o.reads, Writes: o.writes, ValueSize: o.valueSize, Seed: o.seed, Trace: o.trace, LieEvery: o.lieEvery,
		}
		if o.chaos {
			c.Addr, c.Single, c.Chaos, c.Timeout = []string{ls[i].addr()}, true, true, time.Second
		}
		b, err := json.Marshal(c)
		if err != nil {
			return nil, err
		}
		if err := say(p.in, string(b)); err != nil {
			return nil, p.died(i)
		}
	}
	if _, err := eachLine(ctx, all); err != nil { // ready
		return nil, err
	}
	select { // let the first writes' messages arrive, so that the run's are counted alone
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(100 * time.Millisecond):
	}
	for i, p := range all {
		if err := say(p.in, "go"); err != nil {
			return nil, p.died(i)
		}
	}
	defer progress(o, v, stderr)()
	if o.chaos {
		chaotic, calm := context.WithCancel(ctx)
		faults := schedule(o.seed, o.workers, o.duration, rd.pid != 0)
		over := make(chan struct{})
		go func() {
			defer close(over)
			chaos(chaotic, faults, ls, all, rd.pid, admin)
		}()
		defer func() {
			calm()
			<-over // before the workers are ended: one may be stopped
		}()
	}
	lines, err := eachLine(ctx, all)
	if err != nil {
		return nil, err
	}
	results = make([]result, len(lines))
	for i, l := range lines {
		if err := json.Unmarshal([]byte(l), &results[i]); err != nil {
			return nil, fmt.Errorf("worker %d said %.100q: %w", i, l, err)
		}
	}
	return results, nil
}

func start(table *os.File) (*process, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.Command(exe, workerArg), done: make(chan struct{})}
	p.cmd.ExtraFiles = []*os.File{table}
	p.cmd.Stderr = &p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a terminal's Ctrl-C is for the parent
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	// A pipe of our own: Wait closes those that it knows, and what was said last
	// would be lost.
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p.cmd.Stdout = w
	p.out = bufio.NewReader(r)
	err = p.cmd.Start()
	w.Close()
	if err != nil {
		r.Close()
		return nil, err
	}
	go func() {
		defer close(p.done)
		p.cmd.Wait()
	}()
	return p, nil
}

// eachLine reads a line from each worker. It fails as soon as one is dead.
func eachLine(ctx context.Context, all []*process) ([]string, error) {
	lines := make([]string, len(all))
	ended := make(chan error, len(all))
	for i, p := range all {
		go func() {
			var err error
			if lines[i], err = p.out.ReadString('\n'); err != nil {
				err = p.died(i)
			}
			ended <- err
		}()
	}
	for range all {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case err := <-ended:
			if err != nil {
				return nil, err
			}
		}
	}
	return lines, nil
}

// died says why a worker is dead, with the end of its log.
func (p *process) died(i int) error {
	select {
	case <-p.done:
	case <-time.After(5 * time.Second):
		return fmt.Errorf("worker %d says nothing", i)
	}
	return fmt.Errorf("worker %d died (%v); its log ends:\n%s", i, p.cmd.ProcessState, p.log.String())
}

// stopAll ends the workers, and waits until they are gone.
func stopAll(all []*process) {
	for _, p := range all {
		p.in.Close()
	}
	limit := time.After(5 * time.Second)
	for _, p := range all {
		select {
		case <-p.done:
		case <-limit:
			p.cmd.Process.Kill()
			<-p.done
		}
	}
}

// tail keeps the end of what is written to it.
type tail struct {
	mu sync.Mutex
	b  []byte
}

func (t *tail) Write(b []byte) (int, error) {
	const limit = 8 << 10
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.b = append(t.b, b...); len(t.b) > limit {
		t.b = bytes.Clone(t.b[len(t.b)-limit:])
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.b))
}

// progress shows a bar until stop is called; none where the output is no
// terminal.
func progress(o options, v variant, stderr io.Writer) (stop func()) {
	f, ok := stderr.(*os.File)
	if !ok || o.json || !term.IsTerminal(int(f.Fd())) {
		return func() {}
	}
	const step = 100 * time.Millisecond
	bar := progressbar.NewOptions64(int64(o.duration/step), progressbar.OptionSetDescription(v.String()),
		progressbar.OptionSetWriter(f), progressbar.OptionClearOnFinish(), progressbar.OptionShowElapsedTimeOnFinish())
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		t := time.NewTicker(step)
		defer t.Stop()
		for {
			select {
			case <-quit:
				bar.Finish()
				return
			case <-t.C:
				if !bar.IsFinished() {
					bar.Add(1)
				}
			}
		}
	}()
	return func() {
		close(quit)
		<-done
	}
}
