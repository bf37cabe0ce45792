package hybrid

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/internal/redistest"
	"github.com/flipcache/flipcache/invalidate"
)

// Trials after faults that users reported of other caches.

// R1: a read between the two halves of a Delete puts the old value back, for good.
func TestDeleteLeavesNothingBehindHoweverManyReadMeanwhile(t *testing.T) {
	for _, mode := range invalidating {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			s := redistest.Real(t)
			admin := redistest.Client(t, s)
			a, b := join(t, s, mode), join(t, s, mode)
			mark := newMark(t, b)
			var held atomic.Bool
			a.store.hook = func(place, key string) {
				if held.Load() && key == "n:k" && (place == beforeWriteSend || place == afterWriteReply) {
					time.Sleep(2 * time.Millisecond) // the readers go on meanwhile
				}
			}
			stop := make(chan struct{})
			var wg sync.WaitGroup
			for _, p := range []process{a, a, b, b} {
				wg.Go(func() {
					for {
						select {
						case <-stop:
							return
						default:
							p.Get(ctx, "k")
						}
					}
				})
			}
			rounds := 30
			if long {
				rounds = 10_000
			}
			for range rounds {
				a.set(t, "k", "old")
				mark.await(t, admin)
				b.want(t, "k", "old")
				held.Store(true)
				err := a.Delete(ctx, "k")
				held.Store(false)
				if err != nil {
					t.Fatal(err)
				}
				if v, err := a.Get(ctx, "k"); err == nil {
					t.Fatalf("who deleted reads %q", v)
				}
				mark.await(t, admin)
				if v, err := b.Get(ctx, "k"); err == nil {
					t.Fatalf("the other process reads %q", v)
				}
			}
			close(stop)
			wg.Wait()
		})
	}
}

// R8: one of a process' connections dies, whichever, and the others live.
func TestDeathOfAnyOneConnectionLeavesNothingStale(t *testing.T) {
	for _, mode := range invalidating {
		for _, lease := range []time.Duration{0, testLease} {
			t.Run(mode.String()+", lease "+lease.String(), func(t *testing.T) {
				t.Parallel()
				s := redistest.Real(t)
				admin := redistest.Client(t, s)
				a := join(t, s, mode)
				before := clients(t, admin)
				b := join(t, s, mode, func(o *StoreOptions, c *Options[string, string]) { o.MaxStaleness, c.LocalTTL = lease, -1 })
				b.set(t, "k", "first")
				version := 0
				kill := func(id string) {
					b.awaitStatus(t, invalidate.Live)
					eventually(t, "a local entry", func() bool { b.Get(ctx, "k"); return b.local("k") != "" })
					redistest.Do(t, admin, "CLIENT", "KILL", "ID", id)
					version++
					a.set(t, "k", strconv.Itoa(version))
					began := time.Now()
					eventually(t, "the new value", func() bool { v, err := b.Get(ctx, "k"); return err == nil && v == strconv.Itoa(version) })
					if took := time.Since(began); lease > 0 && took > lease+200*time.Millisecond {
						t.Errorf("it took %v", took)
					}
				}
				killed := 0
				for range 3 { // those that are made anew, too
					for _, id := range clients(t, admin) {
						if !slices.Contains(before, id) {
							kill(id)
							killed++
						}
					}
				}
				if killed < 4 {
					t.Errorf("%d connections were killed: the test proves nothing", killed)
				}
			})
		}
	}
}

// clients returns the ids of who is connected, but for the one that asks.
func clients(t *testing.T, admin rueidis.Client) (ids []string) {
	t.Helper()
	m := redistest.Do(t, admin, "CLIENT", "ID")
	self, _ := m.AsInt64()
	m = redistest.Do(t, admin, "CLIENT", "LIST")
	list, _ := m.ToString()
	for _, line := range strings.Split(strings.TrimSpace(list), "\n") {
		id, _, _ := strings.Cut(line[strings.Index(line, "id=")+len("id="):], " ")
		if id != strconv.FormatInt(self, 10) {
			ids = append(ids, id)
		}
	}
	return ids
}

// R9: what a process writes it reads from its own tier, each time: its own push or
// message does not drop it. By a script, it reads the right value, and one read
// brings it back.
func TestOwnWritesAreLocalHits(t *testing.T) {
	for _, mode := range invalidating {
		s := redistest.Real(t)
		p := join(t, s, mode)
		const n = 1000
		for i := range n {
			p.set(t, "k", strconv.Itoa(i))
			p.want(t, "k", strconv.Itoa(i))
		}
		if st := p.Stats(); st.Hits != n {
			t.Errorf("%v: %d local hits of %d", mode, st.Hits, n)
		}
		before := p.Stats()
		for i := range n / 10 {
			v := fmt.Sprint("by script ", i)
			if _, err := p.Update(ctx, "k", func(string, bool) (string, error) { return v, nil }); err != nil {
				t.Fatal(err)
			}
			p.want(t, "k", v)
			eventually(t, "a local hit", func() bool { p.want(t, "k", v); return p.local("k") == v })
		}
		if fills := p.Stats().Fills - before.Fills; fills > n/10*3 {
			t.Errorf("%v: %d fills for %d updates", mode, fills, n/10)
		}
	}
}

const frozenEnv = "FLIPCACHE_TEST_FROZEN"

// TestFrozenWorker reads n:k until its input ends, and prints each value with when
// the last read began that returned it.
func TestFrozenWorker(t *testing.T) {
	job := strings.Fields(os.Getenv(frozenEnv))
	if len(job) == 0 {
		t.Skip("it is run by TestH13_FrozenProcessServesNothingOldWhenItWakes")
	}
	mode, err := invalidate.ParseMode(job[0])
	if err != nil {
		t.Fatal(err)
	}
	o := StoreOptions{Invalidation: mode, MaxStaleness: testLease, Timeout: 5 * time.Second}
	o.Client.InitAddress, o.Client.ForceSingleClient = []string{job[1]}, true
	st, err := Open(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	c := newOn(t, st, "n", Options[string, string]{LocalTTL: -1})
	var over atomic.Bool
	go func() { io.Copy(io.Discard, os.Stdin); over.Store(true) }()
	last, at := "", int64(0)
	for !over.Load() {
		began := time.Now().UnixNano()
		v, err := c.Get(ctx, "k")
		if err != nil {
			continue
		}
		if v != last && last != "" {
			fmt.Println("read", last, at)
		}
		last, at = v, began
	}
}

// H13, R15: a process is frozen for longer than its lease, while others write so
// much that the server may cut it off: from its first instruction on it returns
// nothing that was replaced longer ago than the lease.
func TestH13_FrozenProcessServesNothingOldWhenItWakes(t *testing.T) {
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, mode := range invalidating {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			s := redistest.Real(t, "--client-output-buffer-limit", "pubsub", "262144", "131072", "1")
			a := join(t, s, mode, func(_ *StoreOptions, c *Options[string, string]) { c.NoLocal = true })
			a.set(t, "k", "0")
			cmd := exec.Command(binary, "-test.run=^TestFrozenWorker$", "-test.timeout=1m")
			cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%v %s", frozenEnv, mode, s.Addr))
			in, err1 := cmd.StdinPipe()
			out, err2 := cmd.StdoutPipe()
			if err1 != nil || err2 != nil || cmd.Start() != nil {
				t.Fatal("no worker", err1, err2)
			}
			defer cmd.Process.Kill()
			type seen struct{ version, at int64 }
			reads := make(chan seen, 1<<16)
			var reading sync.WaitGroup
			reading.Go(func() {
				defer close(reads)
				for lines := bufio.NewScanner(out); lines.Scan(); {
					var r seen
					if n, _ := fmt.Sscanf(lines.Text(), "read %d %d", &r.version, &r.at); n == 2 {
						reads <- r
					}
				}
			})
			written := []int64{0} // when the write of a version was answered
			write := func(until time.Time) {
				for time.Now().Before(until) {
					a.set(t, "k", strconv.Itoa(len(written)))
					written = append(written, time.Now().UnixNano())
					time.Sleep(time.Millisecond)
				}
			}
			eventually(t, "the worker reads", func() bool { write(time.Now().Add(5 * time.Millisecond)); return len(reads) > 0 })
			worst, lines := time.Duration(0), 0
			for range 3 {
				write(time.Now().Add(100 * time.Millisecond))
				cmd.Process.Signal(syscall.SIGSTOP)
				many := make(map[string]string, 10_000)
				for i := range 10_000 {
					many[strings.Repeat("k", 50)+strconv.Itoa(i)] = "v"
				}
				if err := a.SetMany(ctx, many); err != nil {
					t.Error(err)
				}
				write(time.Now().Add(2 * testLease))
				cmd.Process.Signal(syscall.SIGCONT)
				write(time.Now().Add(300 * time.Millisecond))
			}
			in.Close()
			reading.Wait()
			cmd.Wait()
			for r := range reads {
				lines++
				if next := int(r.version) + 1; next < len(written) {
					worst = max(worst, time.Duration(r.at-written[next]))
				}
			}
			if worst > testLease {
				t.Errorf("a read began %v after its value had been replaced, the bound is %v", worst, testLease)
			}
			if lines < 50 {
				t.Errorf("%d values read: the test proves nothing", lines)
			}
			t.Logf("worst %v, %d values read", worst, lines)
		})
	}
}
