package report

import (
	"strings"
	"testing"
	"time"
)

func TestMedianIsTheMiddleOrBetweenTheTwoInIt(t *testing.T) {
	for _, tt := range []struct {
		f                 Figure
		low, median, high float64
	}{
		{Figure{7}, 7, 7, 7},
		{Figure{9, 1, 2}, 1, 2, 9},
		{Figure{4, 1, 9, 2}, 1, 3, 9},
	} {
		if l, m, h := tt.f.Low(), tt.f.Median(), tt.f.High(); l != tt.low || m != tt.median || h != tt.high {
			t.Errorf("%v: got %v, %v, %v, want %v, %v, %v", tt.f, l, m, h, tt.low, tt.median, tt.high)
		}
	}
}

func TestNumberHasAboutThreeDigits(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 3: "3", 0.01234: "0.0123", 1.2345: "1.23", 99.4: "99.40", 1234.5: "1234"} {
		if got := Number(v); got != want {
			t.Errorf("%v: got %q, want %q", v, got, want)
		}
	}
	if got, want := Microseconds(12340), "12.3"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestMachineIsNamedInTableAndFile(t *testing.T) {
	m := Machine{CPU: "Some CPU @ 3.00GHz", Cores: "2", Redis: "redis-server 7.0.15", Began: time.Unix(0, 0)}
	got := m.Markdown()
	for _, want := range []string{"| CPU | Some CPU @ 3.00GHz |\n", "| Redis | redis-server 7.0.15, on loopback |\n", "| date | 1970-01-01 00:00 UTC |\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
	if strings.Contains(got, "commit") {
		t.Errorf("a row without content in\n%s", got)
	}
	if got, want := m.Slug(), "some-cpu-3-00ghz-2-cores"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if here := Here(t.Context(), "."); here.CPU == "" || here.Cores == "" || here.Go == "" {
		t.Errorf("this machine has no name: %+v", here)
	}
}

func TestResultsKeepUnitsAndDropTheProcessors(t *testing.T) {
	var r Results
	for _, v := range []string{"12.5", "14.5"} {
		if err := r.Add("cpu: Some CPU\nredis: redis-server 7.0.15\nBenchmarkHit/mode=a-b/goroutines=1-2  700  " + v + " map-ns/op  0 map-allocs/op  3 map-B/entry\nPASS"); err != nil {
			t.Fatal(err)
		}
	}
	if f, ok := r.Find("Hit/mode=a-b/goroutines=1", "map-ns/op"); !ok || f.Median() != 13.5 {
		t.Errorf("got %v, %v in %+v", f, ok, r.All)
	}
	if f, ok := r.Find("Hit/mode=a-b/goroutines=1", "map-B/entry"); !ok || f.Median() != 3 {
		t.Errorf("got %v, %v in %+v", f, ok, r.All)
	}
	if r.Config["cpu"] != "Some CPU" || r.Embedded() {
		t.Errorf("got %v", r.Config)
	}
	if _, ok := r.Find("Hit", "map-ns/op"); ok {
		t.Error("a benchmark that did not run was found")
	}
	if err := r.Add("BenchmarkHit-2 many 1 ns/op"); err == nil {
		t.Error("a line that is no result was taken")
	}
}
