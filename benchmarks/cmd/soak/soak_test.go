//go:build unix

package main

import (
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/flipcache/flipcache/internal/fleet"
	"github.com/flipcache/flipcache/internal/redistest"
)

// The test binary is a worker where it is started as one.
func TestMain(m *testing.M) {
	if fleet.IsWorker() {
		main()
		return
	}
	goleak.VerifyTestMain(m)
}

func testPlan() plan {
	return plan{mode: regexp.MustCompile("^pubsub, lease$"), minutes: 0.1, every: time.Second, lease: 300 * time.Millisecond,
		seed: 3, workers: 2, keys: 60, reads: 2000, writes: 50}
}

func TestSoakOfSecondsBreaksNothing(t *testing.T) {
	t.Parallel()
	redistest.Real(t)
	dir := t.TempDir()
	findings, err := run(t.Context(), testPlan(), dir)
	// What grows in seconds says nothing, least of all under the race detector.
	findings = slices.DeleteFunc(findings, func(f string) bool { return strings.Contains(f, " grew by ") })
	if err != nil || len(findings) > 0 {
		t.Fatal(findings, err)
	}
	written, err := os.ReadDir(dir)
	if err != nil || len(written) != 2 {
		t.Fatal(written, err)
	}
	for _, f := range written {
		text, err := os.ReadFile(dir + "/" + f.Name())
		want := "| pubsub, lease | open files |"
		if strings.HasSuffix(f.Name(), ".svg") {
			want = "pubsub, lease: open files"
		}
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s has no %q: %v", f.Name(), want, err)
		}
	}
}

func TestJudgedLiesAreFound(t *testing.T) {
	t.Parallel()
	p := testPlan()
	p.lieEvery = 10
	m := p.modes()[0]
	redistest.Real(t)
	var kind string
	r, err := p.measure(t.Context(), m, &kind)
	if err != nil {
		t.Fatal(err)
	}
	if all := strings.Join(r.findings(), "\n"); !strings.Contains(all, "the lease is 300ms") {
		t.Errorf("old values are reported, and found is: %q", all)
	}
}

func TestEachFindingIsTold(t *testing.T) {
	good := row{mode: mode{acked: true}, length: time.Minute, lease: time.Second, samples: [][]sample{series(nil)}, reads: 1, writes: 1, hits: 1}
	good.audit.Checked = 1
	if all := good.findings(); len(all) > 0 {
		t.Errorf("%q", all)
	}
	for want, spoil := range map[string]func(*row){
		"nothing was tried":           func(r *row) { r.reads = 0 },
		"replaced 2s before":          func(r *row) { r.worst = 2 * time.Second },
		"an acknowledged write":       func(r *row) { r.stale = 1 },
		"3 entries were not":          func(r *row) { r.left = 3 },
		"2 keys could not be read":    func(r *row) { r.unreadable = 2 },
		"the auditor found":           func(r *row) { r.audit.Worst = time.Minute },
		"samples of its goroutines":   func(r *row) { r.samples[0] = r.samples[0][:15] },
		"its resident memory grew":    func(r *row) { r.samples[0] = series(func(s *sample, i float64) { s.Resident += i * 0.5e6 }) },
		"its heap after a collection": func(r *row) { r.samples[0] = series(func(s *sample, i float64) { s.Heap += i * 0.1e6 }) },
		"its goroutines grew":         func(r *row) { r.samples[0] = series(func(s *sample, i float64) { s.Goroutines += i / 5 }) },
		"its open files grew":         func(r *row) { r.samples[0] = series(func(s *sample, i float64) { s.Files += i / 5 }) },
	} {
		r := good
		r.samples = [][]sample{series(nil)}
		spoil(&r)
		all := r.findings()
		if got := strings.Join(all, "\n"); !strings.Contains(got, want) {
			t.Errorf("%q is not in %q", want, got)
		}
	}
}

// series are samples of a minute: flat but for noise and peaks, and for what grow adds.
func series(grow func(s *sample, i float64)) (all []sample) {
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 60 {
		s := sample{At: time.Duration(i) * time.Second, Resident: 30e6 + 3e6*r.Float64(), Heap: 3e6 + 3e5*r.Float64(),
			Goroutines: 20 + float64(r.IntN(6)), Files: 15 + float64(r.IntN(4))}
		if i > 40 && i%9 == 0 { // a fault
			s.Resident, s.Goroutines, s.Files = 60e6, 90, 60
		}
		if grow != nil {
			grow(&s, float64(i))
		}
		all = append(all, s)
	}
	return all
}

func TestFlagsAreCheckedWhole(t *testing.T) {
	if err := testPlan().check(); err != nil {
		t.Error(err)
	}
	err := plan{minutes: 0.1}.check()
	for _, want := range []string{"-minutes", "-every", "-workers"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
	if err := (plan{mode: regexp.MustCompile("none")}).check(); err == nil || !strings.Contains(err.Error(), "-mode") {
		t.Error(err)
	}
}
