//go:build unix

package fleet

import (
	"slices"
	"testing"
	"time"
)

func TestEventsAreTheSamePerSeedAndLeaveTimeToRecover(t *testing.T) {
	const length = 60 * time.Second
	for _, cluster := range []bool{true, false} {
		a := eventsOf(7, length, cluster)
		if !slices.Equal(a, eventsOf(7, length, cluster)) || slices.Equal(a, eventsOf(8, length, cluster)) || len(a) < 15 {
			t.Errorf("cluster %t: %d events, or not those of the seed", cluster, len(a))
		}
		seen := make(map[string]int)
		for i, e := range a {
			seen[e.kind]++
			if e.at < chaosBegins || e.at > length-chaosPauses-recovery || i > 0 && e.at < a[i-1].at {
				t.Errorf("%+v", e)
			}
		}
		if seen[killServer] == 0 || seen[orderSwitch] == 0 || seen[freezeServer] == 0 || (seen[moveSlots] > 0) != cluster {
			t.Errorf("cluster %t: %v", cluster, seen)
		}
	}
	if len(eventsOf(7, 8*time.Second, true)) == 0 {
		t.Error("nothing happens in 8 s")
	}
}

func TestFaultsOfSeveralServersAreThoseOfOneAndSayWhichLink(t *testing.T) {
	one, six := schedule(7, 4, 1, time.Minute, false), schedule(7, 4, 6, time.Minute, false)
	if len(one) != len(six) {
		t.Fatalf("%d faults with one server, %d with six", len(one), len(six))
	}
	links := make(map[int]int)
	for i, f := range six {
		links[f.server]++
		if one[i].server != -1 {
			t.Errorf("%+v is of one of several, and there is one", one[i])
		}
		if f.server = -1; f != one[i] {
			t.Errorf("%+v, with six %+v", one[i], six[i])
		}
	}
	if len(links) != 7 || links[-1] < len(six)/4 {
		t.Errorf("faults by link: %v", links)
	}
}
