package invalidate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/flipcache/flipcache/internal/redistest"
	"github.com/flipcache/flipcache/internal/slots"
)

// servedBy is the view of a cluster of two masters, a and b, in which the slots up to
// one number are a's, and those from another one b's.
func servedBy(t *testing.T, epoch, upTo, from int) slots.View {
	t.Helper()
	const line = "%s 127.0.0.1:1 master - 0 0 %d connected %d-%d\n"
	return viewFrom(t, fmt.Sprintf(line, "a", epoch, 0, upTo)+fmt.Sprintf(line, "b", epoch, from, slots.Count-1))
}

// H16: where the list of who listens has another master since a moment ago, it may lack
// who has a lease of before; what else moves has nothing to do with it.
func TestH16_ListThatChangedHandsHasAFloorForAsLongAsALease(t *testing.T) {
	var now int64
	c := &cluster{t: &tracking{s: newStream(Config{now: func() int64 { return now }})}}
	at := int(slots.Of(membersPrefix + "n"))
	begin := func(upTo int) {
		v := servedBy(t, int(now), upTo, upTo+1)
		c.enter(v)
		c.view, c.masters = v, []master{{id: "a"}, {id: "b"}}
	}
	floor := func(what string, want bool) {
		t.Helper()
		if p := c.placesOf("n", nil); p.floor != want || p.lost {
			t.Errorf("%s: floor %t, lost %t; want %t, false", what, p.floor, p.lost, want)
		}
	}
	second := int64(time.Second)
	begin(at)
	floor("the first table", false)
	now += second
	begin(at + 1)
	floor("another slot has moved", false)
	now += second
	begin(at - 1)
	floor("its slot has moved", true)
	now += second
	begin(at)
	floor("it is back again", true)
	now += patienceFor(MaxMaxStaleness)
	floor("long ago", false)
}

// What was written in a slot of which nobody is known to serve it may have been read
// anywhere: no answer counts.
func TestSlotThatNobodyServesVoidsTheQuestion(t *testing.T) {
	c := &cluster{t: &tracking{s: newStream(Config{})}}
	if p := c.placesOf("n", nil); !p.lost {
		t.Error("no master is known, and all are asked")
	}
	v := servedBy(t, 1, 10, 20)
	c.enter(v)
	c.view, c.masters = v, []master{{id: "a"}, {id: "b"}}
	for _, test := range []struct {
		written []uint16
		asked   int
		lost    bool
	}{{nil, 2, false}, {[]uint16{1, 2}, 1, false}, {[]uint16{1, 20}, 2, false}, {[]uint16{15}, 0, true}, {[]uint16{1, 15}, 1, true}} {
		if p := c.placesOf("n", test.written); len(p.ask) != test.asked || p.lost != test.lost {
			t.Errorf("%d: %d are asked, lost %t; want %d, %t", test.written, len(p.ask), p.lost, test.asked, test.lost)
		}
	}
	c.masters = c.masters[1:] // the table is of the session, and its master unknown
	if p := c.placesOf("n", []uint16{1}); !p.lost {
		t.Error("the slot's master is not known, and not missed")
	}
}

// Where it cannot be read who listens, nobody knows who has heard.
func TestListThatCannotBeReadConfirmsNothing(t *testing.T) {
	one := redistest.Real(t)
	for name, s := range map[string]redistest.Server{"one server": one, "a cluster": redistest.Masters(t, 1)} {
		redistest.Do(t, redistest.Client(t, s), "SET", membersPrefix+"odd", "no list")
		st := listen(t, s, trackingFor(time.Second))
		short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		defer cancel()
		err := st.Confirm(short, st.Tracked(), "odd")
		var u *Unconfirmed
		if !errors.As(err, &u) || len(u.Members) > 0 || !strings.Contains(err.Error(), "not known") || !strings.Contains(err.Error(), "WRONGTYPE") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
