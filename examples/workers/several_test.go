//go:build unix

package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/flipcache/flipcache/internal/redistest"
)

// Servers are killed, change their roles and slots under a lease: whatever was served
// locally had not been replaced for longer, and what Redis itself lost is no breach.
func TestChaosOfServersBreaksNoLease(t *testing.T) {
	redistest.Real(t)
	for kind, seed := range map[string]string{ // of which a master is dead for 3 s
		"cluster":  "3",
		"sentinel": "9",
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			promoted := false
			for try := 0; try < 3 && !promoted; try++ { // on a busy machine one may be too short for a promotion
				r := runJSON(t, "-"+kind, "-mode", "tracking+lease", "-chaos", "-duration", "9s", "-seed", seed, "-max-staleness", "600ms", "-reads", "3000", "-keys", "200", "-workers", "3")
				if len(r.Runs) != 1 || r.Server != kind || r.Runs[0].Server != kind || r.Runs[0].Switches == nil {
					t.Fatalf("%+v", r)
				}
				m := r.Runs[0]
				t.Logf("%d reads, worst age %v ms, of local hits %v; %+v", m.Reads, m.StaleAge.Max, m.LocalStaleAge, *m.Switches)
				if m.Reads == 0 || m.LocalHits == 0 || m.Errors == 0 || m.Kills == 0 {
					t.Errorf("%+v, %+v: was there chaos?", m, *m.Switches)
				}
				if (m.Moves > 0) != (kind == "cluster") {
					t.Errorf("%d slots moved", m.Moves)
				}
				if m.LocalStaleAge > 605 || m.NotMended > 1000 {
					t.Errorf("worst age of a local hit %v ms, after the chaos %v", m.LocalStaleAge, m.NotMended)
				}
				if promoted = m.Failovers > 0; promoted && m.Served.Count == 0 {
					t.Error("no tier served again")
				}
			}
			if !promoted {
				t.Error("nobody was promoted: was there chaos?")
			}
		})
	}
}

// What a cluster cannot is a row that says why.
func TestModesThatAServerHasNotSayWhy(t *testing.T) {
	redistest.Real(t)
	t.Parallel()
	o := options{cluster: true, modes: "all", lease: 500 * time.Millisecond}
	rd, err := server(o)
	if err != nil {
		t.Fatal(err)
	}
	defer rd.stop()
	all, err := variants(context.Background(), o, rd.Client)
	if err != nil {
		t.Fatal(err)
	}
	var r report
	for _, c := range all {
		var want string
		if c.mode.String() == "pubsub" && c.lease > 0 {
			want = "use invalidate.Tracking"
		}
		if !strings.Contains(c.cannot, want) || (want == "") != (c.cannot == "") {
			t.Errorf("%v: %q, want %q", c, c.cannot, want)
		}
		if c.cannot != "" {
			r.Runs = append(r.Runs, newRow(c.variant, rd, c.cannot))
		}
	}
	if len(all) != 7 {
		t.Errorf("%d modes, want 7: %v", len(all), all)
	}
	var b strings.Builder
	if err := r.writeText(&b); err != nil || !strings.Contains(b.String(), "With pubsub, lease 500 ms nothing was run: ") || !strings.Contains(b.String(), "n/a") {
		t.Errorf("%v: printed\n%s", err, b.String())
	}
}

func TestServedAfterIsFromAPromotionToTheFirstHitBeforeTheNext(t *testing.T) {
	got := servedAfter([]time.Duration{100, 200, 300}, []time.Duration{50, 130, 140, 310})
	if len(got) != 2 || got[0] != 30 || got[1] != 10 {
		t.Errorf("got %v, want 30 and 10: nothing was served between the second and the third", got)
	}
}
