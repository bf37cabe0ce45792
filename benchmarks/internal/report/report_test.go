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
