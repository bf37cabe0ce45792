package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/flipcache/flipcache/benchmarks/internal/report"
)

// example has figures of three runs, the second twice and the third three times
// as dear as the first.
func example(trackingCost time.Duration) *figures {
	f := &figures{
		plan:    plan{[]int{16, 1024}, []float64{0.01, 1}, []int{1, 64}, 100, 3},
		machine: report.Machine{CPU: "Some CPU", Cores: "2", Redis: "redis-server 7.0.15"},
	}
	for _, writers := range f.writers {
		for _, s := range f.settings() {
			for run := range 3 {
				times := time.Duration(run+1) * time.Microsecond
				m := measure{write: 10 * times}
				switch s.way {
				case pubSub:
					m.write, m.heard = time.Duration(10+s.listeners)*times, float64(s.listeners)
				case tracking:
					m.write, m.reread, m.heard = trackingCost*times, 50*times, 30
				}
				f.add(point{s, writers}, m)
			}
		}
	}
	return f
}

func TestReportHasMediansWithTheirSpread(t *testing.T) {
	got := example(100).markdown("x.svg")
	for _, want := range []string{
		"# Fan-out: Some CPU, 2 cores\n", "![processor time a write, by listeners](x.svg)",
		"## One write at a time\n", "## 64 writers at once\n",
		"nobody hears: SET 20.0 (10.0 to 30.0), MULTI, SET, PUBLISH, EXEC 20.0 (10.0 to 30.0)",
		"| listeners | PubSub | Tracking, 1 % | Tracking, 100 % |\n|---|---|---|---|\n",
		"| 16 | 52.0 (26.0 to 78.0) | 200 (100 to 300) |",
		"| 16 | 100 (50.0 to 150) | 100 (50.0 to 150) |\n", // re-reads
		"| 16 | 300 (150 to 450) | 300 (150 to 450) |\n",   // with them
		"| 1024 | 103 | 0.097; 0.14 | 0.097; 0.14 |\n",     // ratios
		"| 1024 | 2.00 | 6.00 | 6.00 |\n",                  // a message
		"| One write at a time: the write with its messages | 0.097 | 0.097 to 0.097 | 0.20 | met |\n",
		"| the same, with the re-reads | 0.14 | 0.14 to 0.14 | | |\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
}

func TestReportSaysThatTheTargetIsMissed(t *testing.T) {
	if got, want := example(600).markdown("x.svg"), "| 0.58 | 0.58 to 0.58 | 0.20 | **missed** |"; !strings.Contains(got, want) {
		t.Errorf("%q is missing in\n%s", want, got)
	}
}

func TestPlotIsWellFormedAndNamesItsLines(t *testing.T) {
	got, err := example(100).svg()
	if err != nil {
		t.Fatal(err)
	}
	for d := xml.NewDecoder(bytes.NewReader(got)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"PubSub", "Tracking, 1 % of the keys", "SET that nobody hears", "64 writers at once", "1024"} {
		if !bytes.Contains(got, []byte(want)) {
			t.Errorf("%q is missing in the plot", want)
		}
	}
}
