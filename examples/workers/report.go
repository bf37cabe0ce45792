//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/flipcache/flipcache/internal/fleet"
)

// report is what -json prints.
type report struct {
	Server   string  `json:"server"` // standalone, cluster or sentinel
	Program  string  `json:"program"`
	Machine  string  `json:"machine"`
	Workers  int     `json:"workers"`
	Keys     int     `json:"keys"`
	LocalTTL float64 `json:"local_ttl_ms"`
	Trace    string  `json:"trace,omitempty"`
	Chaos    bool    `json:"chaos,omitempty"`
	Seed     uint64  `json:"seed"`
	Runs     []run   `json:"runs"`
}

// run is one mode's row.
type run struct {
	Server         string    `json:"server"`
	Mode           string    `json:"mode"`
	MaxStaleness   float64   `json:"max_staleness_ms,omitempty"`
	Acked          bool      `json:"acked,omitempty"`          // writes are acknowledged
	NotApplicable  string    `json:"not_applicable,omitempty"` // why the server cannot: nothing was run
	Reads          uint64    `json:"reads"`
	LocalHits      uint64    `json:"local_hits"`
	LocalHitRate   float64   `json:"local_hit_rate"`
	ReadsPerSecond float64   `json:"reads_per_second"`
	LocalRead      quantiles `json:"local_read_us"`
	RedisRead      quantiles `json:"redis_read_us"`
	Writes         uint64    `json:"writes"`
	UnknownWrites  uint64    `json:"writes_of_unknown_outcome"`
	StaleReads     uint64    `json:"stale_reads"`
	StaleRate      float64   `json:"stale_rate"`
	StaleAge       ages      `json:"stale_age_ms"`
	LocalStaleAge  float64   `json:"stale_age_of_local_hits_max_ms"`
	AgeLowerBounds uint64    `json:"stale_ages_that_are_lower_bounds"`
	Sent           uint64    `json:"invalidations_sent"`
	Received       uint64    `json:"invalidations_received"`
	Lies           uint64    `json:"lies,omitempty"`
	Errors         uint64    `json:"errors,omitempty"`
	NotMended      float64   `json:"stale_age_after_chaos_max_ms"`
	*Switches
}

// Switches is what several servers did beside.
type Switches struct {
	Kills      int    `json:"masters_killed"`
	Failovers  int    `json:"failovers"` // servers that became masters
	Moves      int    `json:"slots_moved"`
	WritesLost uint64 `json:"writes_lost_by_failovers"` // acknowledged; none of a key that was soon written again
	// Served says how long after a promotion a process' tiers served again.
	Served served `json:"served_after_promotion_ms"`
}

type served struct {
	Count int     `json:"count"` // promotions times processes, but for those that another followed before
	P50   float64 `json:"p50"`
	Max   float64 `json:"max"`
}

type quantiles struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
}

type ages struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

func newRow(v variant, rd redis, cannot string) run {
	return run{Server: rd.server, Mode: v.mode.String(), MaxStaleness: v.lease.Seconds() * 1000, Acked: v.acked, NotApplicable: cannot}
}

// sum adds up what the workers did.
func (r *run) sum(o fleet.Outcome) error {
	var local, slow, age *hdrhistogram.Histogram
	merge := func(into **hdrhistogram.Histogram, s *hdrhistogram.Snapshot) {
		h := hdrhistogram.Import(s)
		if *into == nil {
			*into = h
		} else {
			(*into).Merge(h)
		}
	}
	var again []time.Duration
	for _, w := range o.Results {
		var m measured
		if err := json.Unmarshal(w.Measured, &m); err != nil {
			return err
		}
		r.LocalStaleAge = max(r.LocalStaleAge, m.Oldest.Seconds()*1000)
		again = append(again, servedAfter(o.Promotions, m.Served)...)
		r.Reads += w.Reads
		r.LocalHits += m.LocalHits
		r.Writes += w.Writes
		r.UnknownWrites += w.Unknown
		r.StaleReads += w.Stale
		r.AgeLowerBounds += w.AgeLowerBounds
		r.Sent += m.Sent
		r.Received += m.Received
		r.Lies += w.Lies
		r.Errors += w.Errors
		r.NotMended = max(r.NotMended, w.NotMended.Seconds()*1000)
		r.ReadsPerSecond += float64(w.Reads) / w.Elapsed.Seconds()
		merge(&local, m.Local)
		merge(&slow, m.Redis)
		merge(&age, m.Age)
	}
	if r.Reads > 0 {
		r.LocalHitRate = float64(r.LocalHits) / float64(r.Reads)
		r.StaleRate = float64(r.StaleReads) / float64(r.Reads)
	}
	us := func(h *hdrhistogram.Histogram, q float64) float64 { return float64(h.ValueAtQuantile(q)) / 1000 }
	r.LocalRead = quantiles{us(local, 50), us(local, 99)}
	r.RedisRead = quantiles{us(slow, 50), us(slow, 99)}
	r.StaleAge = ages{us(age, 50), us(age, 99), float64(age.Max()) / 1000}
	if r.StaleReads == 0 {
		r.StaleAge = ages{}
	}
	if r.Server != "standalone" {
		slices.Sort(again)
		r.Switches = &Switches{Kills: o.Kills, Failovers: len(o.Promotions), Moves: o.Moves, WritesLost: o.Lost}
		if n := len(again); n > 0 {
			r.Served = served{n, again[(n-1)/2].Seconds() * 1000, again[n-1].Seconds() * 1000}
		}
	}
	return nil
}

// servedAfter returns how long after each promotion the tiers of a process first served
// that had been cut. Those that another promotion followed before are left out.
func servedAfter(promotions, served []time.Duration) (took []time.Duration) {
	for i, at := range promotions {
		n, _ := slices.BinarySearch(served, at)
		if n < len(served) && (i+1 == len(promotions) || served[n] < promotions[i+1]) {
			took = append(took, served[n]-at)
		}
	}
	return took
}

// title names the mode, and its lease.
func (m run) title() string {
	if m.MaxStaleness > 0 {
		mode := m.Mode
		if m.Acked {
			mode += ", acked"
		}
		return fmt.Sprintf("%s, lease %.4g ms", mode, m.MaxStaleness)
	}
	return m.Mode
}

func (r *report) writeJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// writeText prints a sentence a run for a person, then the table.
func (r *report) writeText(w io.Writer) error {
	fmt.Fprintln(w)
	for _, m := range r.Runs {
		if m.NotApplicable != "" {
			fmt.Fprintf(w, "With %s nothing was run: %s.\n", m.title(), m.NotApplicable)
			continue
		}
		worst := ""
		if m.StaleReads > 0 {
			worst = fmt.Sprintf(" (%s), the worst had been replaced %.3g ms before", percent(m.StaleRate), m.StaleAge.Max)
		}
		fmt.Fprintf(w, "With %s %s of %s reads were stale%s.\n", m.title(), thousands(m.StaleReads), thousands(m.Reads), worst)
	}
	fmt.Fprintln(w)

	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(name string, cell func(run) string) {
		fmt.Fprintf(t, "%s\t", name)
		for _, m := range r.Runs {
			switch {
			case m.NotApplicable == "" || name == "mode":
				fmt.Fprintf(t, "%s\t", cell(m))
			default:
				fmt.Fprint(t, "n/a\t")
			}
		}
		fmt.Fprintln(t)
	}
	row("mode", run.title)
	row("reads", func(m run) string { return thousands(m.Reads) })
	row("local hit rate", func(m run) string { return percent(m.LocalHitRate) })
	row("reads a second", func(m run) string { return thousands(uint64(m.ReadsPerSecond)) })
	row("local read p50/p99, µs", func(m run) string { return fmt.Sprintf("%.2f / %.2f", m.LocalRead.P50, m.LocalRead.P99) })
	row("Redis read p50/p99, µs", func(m run) string { return fmt.Sprintf("%.0f / %.0f", m.RedisRead.P50, m.RedisRead.P99) })
	row("writes", func(m run) string { return thousands(m.Writes) })
	row("stale reads", func(m run) string { return thousands(m.StaleReads) })
	row("stale rate", func(m run) string { return percent(m.StaleRate) })
	row("stale age p50/p99/max, ms", func(m run) string {
		if m.StaleReads == 0 {
			return "-"
		}
		return fmt.Sprintf("%.3g / %.3g / %.3g", m.StaleAge.P50, m.StaleAge.P99, m.StaleAge.Max)
	})
	if r.Server != "standalone" {
		row("of local hits: max", func(m run) string { return fmt.Sprintf("%.3g", m.LocalStaleAge) })
	}
	if r.Chaos {
		row("the same, after the chaos: max", func(m run) string { return fmt.Sprintf("%.3g", m.NotMended) })
		row("reads and writes that failed", func(m run) string { return thousands(m.Errors) })
	}
	if r.Chaos && r.Server != "standalone" {
		row("masters killed, failovers, slots moved", func(m run) string { return fmt.Sprintf("%d, %d, %d", m.Kills, m.Failovers, m.Moves) })
		row("writes that failovers lost", func(m run) string { return thousands(m.WritesLost) })
		row("tiers served again p50/max, ms", func(m run) string { return fmt.Sprintf("%.3g / %.3g", m.Served.P50, m.Served.Max) })
	}
	row("invalidations sent", func(m run) string { return thousands(m.Sent) })
	row("invalidations received", func(m run) string { return thousands(m.Received) })
	if err := t.Flush(); err != nil {
		return err
	}
	for _, m := range r.Runs {
		if m.AgeLowerBounds > 0 {
			fmt.Fprintf(w, "%s: the age of %s stale reads is a lower bound: more writes had completed than are remembered.\n", m.title(), thousands(m.AgeLowerBounds))
		}
		if m.UnknownWrites > 0 {
			fmt.Fprintf(w, "%s: %s writes had an unknown outcome; their keys were given up.\n", m.title(), thousands(m.UnknownWrites))
		}
	}
	_, err := fmt.Fprintf(w, "\n%s; %d workers, %d keys, local entries live %v; %s\n", r.Program, r.Workers, r.Keys,
		time.Duration(r.LocalTTL*float64(time.Millisecond)), r.Machine)
	return err
}

func percent(f float64) string { return fmt.Sprintf("%.4g %%", 100*f) }

func thousands(n uint64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// machine names what the figures were measured on.
func machine() string {
	cpu := runtime.GOARCH
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				cpu = strings.TrimSpace(value)
				break
			}
		}
	}
	return fmt.Sprintf("%d cores of %s, %s, %s", runtime.NumCPU(), cpu, runtime.GOOS, runtime.Version())
}
