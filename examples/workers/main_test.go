//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/flipcache/flipcache/internal/fleet"
	"github.com/flipcache/flipcache/internal/redisserver"
	"github.com/flipcache/flipcache/internal/redistest"
)

// The test binary is a worker, or the demo, where it is started as one.
func TestMain(m *testing.M) {
	if fleet.IsWorker() || os.Getenv("WORKERS_TEST_DEMO") != "" {
		main()
		return
	}
	// rueidis looks for a cluster behind an address, at most once a second.
	goleak.VerifyTestMain(m,
		// rueidis' client for clusters has goroutines that sleep for some seconds, and end.
		goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*call).DelayDo.func1"),
		goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*clusterClient)._refresh.func2"),
		goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*clusterClient).redirectOrNew.func1"))
}

func runJSON(t *testing.T, args ...string) report {
	t.Helper()
	var out, errOut bytes.Buffer
	if code := demo(context.Background(), append(args, "-json"), &out, &errOut); code != 0 {
		t.Fatalf("exit code %d: %s", code, errOut.String())
	}
	var r report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatalf("%v in %s", err, out.String())
	}
	return r
}

func TestDemoShowsTheDifference(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		addr := s.Addr
		if s.Embedded() != nil {
			addr = "embedded"
		}
		r := runJSON(t, "-redis", addr, "-mode", "off,pubsub", "-workers", "3", "-duration", "2s", "-reads", "2000", "-keys", "100")
		if len(r.Runs) != 2 || r.Runs[0].Mode != "off" || r.Runs[1].Mode != "pubsub" {
			t.Fatalf("runs: %+v", r.Runs)
		}
		for _, m := range r.Runs {
			if m.Reads == 0 || m.Writes == 0 || m.LocalHits == 0 {
				t.Errorf("%s: %+v", m.Mode, m)
			}
		}
		off, pubsub := r.Runs[0], r.Runs[1]
		if off.StaleRate < 0.01 || off.StaleAge.Max == 0 {
			t.Errorf("off: stale rate %v: the judge sees nothing", off.StaleRate)
		}
		if pubsub.StaleRate > off.StaleRate/50 { // far from the promise, for a machine that is busy
			t.Errorf("pubsub: stale rate %v, off %v", pubsub.StaleRate, off.StaleRate)
		}
		// The last messages may still be under way when a worker ends.
		if off.Sent != 0 || pubsub.Sent != pubsub.Writes || pubsub.Received > 2*pubsub.Sent || pubsub.Received < pubsub.Sent {
			t.Errorf("sent %d and %d for %d writes, received %d", off.Sent, pubsub.Sent, pubsub.Writes, pubsub.Received)
		}
	})
}

func TestJudgeCountsEachOldValueServedOnPurpose(t *testing.T) {
	s := redistest.Real(t)
	// One worker sees its own writes: whatever is stale is a lie.
	r := runJSON(t, "-redis", s.Addr, "-mode", "pubsub", "-workers", "1", "-duration", "1s", "-reads", "5000", "-keys", "5", "-writes", "200", "-lie-every", "7")
	m := r.Runs[0]
	if m.Lies == 0 || m.StaleReads != m.Lies {
		t.Errorf("%d old values were served, %d counted", m.Lies, m.StaleReads)
	}
	if m.StaleAge.Max <= 0 {
		t.Errorf("ages: %+v", m.StaleAge)
	}
}

func TestTextBeginsWithASentence(t *testing.T) {
	var out, errOut bytes.Buffer
	if code := demo(context.Background(), []string{"-redis", "embedded", "-duration", "300ms", "-workers", "2"}, &out, &errOut); code != 0 {
		t.Fatalf("exit code %d: %s", code, errOut.String())
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if !strings.HasPrefix(lines[0], "With off ") || !strings.Contains(lines[0], "reads were stale") || !strings.Contains(out.String(), "local hit rate") {
		t.Errorf("printed:\n%s", out.String())
	}
	if !strings.Contains(out.String(), "miniredis") {
		t.Error("the server is not named")
	}
}

func TestTraceIsReplayed(t *testing.T) {
	trace := filepath.Join(t.TempDir(), "trace")
	if err := os.WriteFile(trace, []byte("1 50 0 0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := runJSON(t, "-redis", "embedded", "-mode", "pubsub", "-workers", "2", "-duration", "300ms", "-trace", trace)
	if r.Keys != 50 || r.Runs[0].Reads == 0 {
		t.Errorf("replayed: %+v", r)
	}
	var out, errOut bytes.Buffer
	if code := demo(context.Background(), []string{"-redis", "embedded", "-trace", trace + "none"}, &out, &errOut); code != exitFailed || !strings.Contains(errOut.String(), "-trace: ") {
		t.Errorf("no trace: exit code %d, %q", code, errOut.String())
	}
}

func TestBadFlagsAreNamed(t *testing.T) {
	for flag, args := range map[string][]string{
		"-workers":         {"-workers", "0"},
		"-duration":        {"-duration", "1ns"},
		"-keys":            {"-keys", "-1"},
		"-reads":           {"-reads", "-1"},
		"-value-size":      {"-value-size", "7"},
		"-local-ttl":       {"-local-ttl", "0s"},
		"-mode":            {"-mode", "off,sometimes"},
		"stray":            {"stray"},
		"-max-staleness":   {"-max-staleness", "1ms"},
		"off has no lease": {"-mode", "off+lease"},
		"-chaos":           {"-chaos", "-duration", "1s"},
		"-nonsense":        {"-nonsense"},
	} {
		var out, errOut bytes.Buffer
		if code := demo(context.Background(), args, &out, &errOut); code != exitUsage || !strings.Contains(errOut.String(), flag) {
			t.Errorf("%v: exit code %d, %q", args, code, errOut.String())
		}
	}
	var out, errOut bytes.Buffer
	if code := demo(context.Background(), []string{"-redis", "127.0.0.1:1"}, &out, &errOut); code != exitFailed || !strings.Contains(errOut.String(), "127.0.0.1:1") {
		t.Errorf("no Redis: exit code %d, %q", code, errOut.String())
	}
	errOut.Reset()
	if code := demo(context.Background(), []string{"-redis", "embedded", "-mode", "tracking"}, &out, &errOut); code != exitFailed || !strings.Contains(errOut.String(), "use invalidate.PubSub") {
		t.Errorf("a mode that the server cannot: exit code %d, %q", code, errOut.String())
	}
}

// background starts the demo as a process of its own, in a group of its own,
// and returns it when its workers are at work.
func background(t *testing.T, s *redisserver.Server) (cmd *exec.Cmd, errOut *bytes.Buffer, workers []int) {
	t.Helper()
	cmd = exec.Command(os.Args[0], "-redis", s.Addr, "-mode", "pubsub", "-workers", "3", "-duration", "30s")
	cmd.Env = append(os.Environ(), "WORKERS_TEST_DEMO=1")
	errOut = new(bytes.Buffer)
	cmd.Stderr = errOut
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	admin := redistest.Client(t, s)
	eventually(t, "three workers that have written their keys", func() bool {
		workers = children(t, cmd.Process.Pid)
		m := redistest.Do(t, admin, "DBSIZE")
		n, err := m.AsInt64()
		return len(workers) == 3 && err == nil && n >= 1000
	})
	return cmd, errOut, workers
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func children(t *testing.T, pid int) (pids []int) {
	t.Helper()
	out, err := exec.Command("ps", "-e", "-o", "pid=,ppid=").Output()
	if err != nil {
		t.Skipf("ps: %v", err)
	}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) == 2 && f[1] == strconv.Itoa(pid) {
			if p, err := strconv.Atoi(f[0]); err == nil {
				pids = append(pids, p)
			}
		}
	}
	return pids
}

func gone(pid int) bool { return syscall.Kill(pid, 0) != nil }

func allGone(t *testing.T, pids []int) {
	t.Helper()
	eventually(t, "no worker is left", func() bool {
		for _, p := range pids {
			if !gone(p) {
				return false
			}
		}
		return true
	})
}

func TestInterruptLeavesNoWorker(t *testing.T) {
	s := redistest.Real(t)
	cmd, errOut, workers := background(t, s)
	cmd.Process.Signal(os.Interrupt)
	err := cmd.Wait()
	if cmd.ProcessState.ExitCode() != exitInterrupted {
		t.Errorf("ended with %v: %s", err, errOut)
	}
	allGone(t, workers)
}

func TestKilledParentLeavesNoWorker(t *testing.T) {
	s := redistest.Real(t)
	cmd, _, workers := background(t, s)
	cmd.Process.Kill()
	cmd.Wait()
	allGone(t, workers)
}

func TestDeadWorkerFailsTheRunAndShowsItsLog(t *testing.T) {
	s := redistest.Real(t)
	cmd, errOut, workers := background(t, s)
	syscall.Kill(workers[1], syscall.SIGABRT) // the Go runtime logs its stacks
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != exitFailed || !strings.Contains(errOut.String(), "died") || !strings.Contains(errOut.String(), "goroutine") {
		t.Errorf("exit code %d: %s", code, errOut)
	}
	allGone(t, workers)
}

// Under a lease no read is older than it, whatever fails; without, the judge
// sees that some are.
func TestChaosBreaksNoLease(t *testing.T) {
	redistest.Real(t)
	r := runJSON(t, "-mode", "off,pubsub+lease,tracking+lease", "-chaos", "-duration", "8s", "-seed", "7", "-max-staleness", "300ms", "-reads", "5000", "-keys", "200")
	if len(r.Runs) != 3 || !r.Chaos || r.Seed != 7 {
		t.Fatalf("%+v", r)
	}
	for _, m := range r.Runs {
		if m.Reads == 0 || m.Errors == 0 {
			t.Errorf("%s: %d reads, %d errors: was there chaos?", m.Mode, m.Reads, m.Errors)
		}
		switch {
		case m.MaxStaleness == 0 && m.StaleAge.Max < 300:
			t.Errorf("off: worst age %v ms: the judge sees nothing", m.StaleAge.Max)
		case m.MaxStaleness > 0 && (m.MaxStaleness != 300 || m.StaleAge.Max > 305 || m.NotMended > 305):
			t.Errorf("%s under a lease of %v ms: worst age %v, after the chaos %v", m.Mode, m.MaxStaleness, m.StaleAge.Max, m.NotMended)
		}
	}
}
