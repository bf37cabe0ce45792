//go:build unix

package fleet

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/flipcache/flipcache/internal/redisserver"
	"github.com/flipcache/flipcache/internal/slots"
)

// What happens to servers, where there are several.
const (
	killServer   = "kill-master"   // by SIGKILL, and a supervisor restarts it
	orderSwitch  = "failover"      // a replica is asked to take the master's place
	moveSlots    = "move-slots"    // while their keys are written; in a cluster only
	freezeServer = "freeze-server" // by SIGSTOP; a sentinel, too
)

// An event is one line of the operator's schedule.
type event struct {
	kind   string
	at     time.Duration // it may be later: one waits until the one before is over
	length time.Duration // of those that have one
	pick   int           // which server, or which slots
}

const (
	// recovery is how long before the chaos pauses the last event begins, at
	// most: until all have their roles.
	recovery = 8 * time.Second
	// moved is how many slots move in an event.
	moved = 10
)

// eventsOf draws the events of a run of this length: the same for the same seed. All
// kinds have their turn before one has another.
func eventsOf(seed uint64, length time.Duration, cluster bool) (events []event) {
	r := rand.New(rand.NewPCG(seed, 0x09e4a))
	kinds := []string{killServer, orderSwitch, freezeServer}
	if cluster {
		kinds = append(kinds, moveSlots, moveSlots)
	}
	var turn []string
	end := length - chaosPauses - min(recovery, length/4)
	for at := 2 * chaosBegins; at <= end; at += time.Second + time.Duration(r.Int64N(int64(2*time.Second))) {
		if len(turn) == 0 {
			for _, i := range r.Perm(len(kinds)) {
				turn = append(turn, kinds[i])
			}
		}
		e := event{kind: turn[0], at: at, length: 200*time.Millisecond + time.Duration(r.Int64N(int64(2800*time.Millisecond))), pick: r.IntN(1 << 20)}
		turn = turn[1:]
		events = append(events, e)
	}
	return events
}

// An operator has the events happen, one after the other.
type operator struct {
	servers several
	cluster *redisserver.Cluster // nil: it is none
	slots   []uint16             // of the keys
	kills   int
	moves   int // of a slot
}

// run has events happen. It returns when all is well again: as soon as that is so,
// when ctx ends. Those that would begin after last are left out.
func (o *operator) run(ctx context.Context, events []event, last time.Duration) error {
	began := time.Now()
	for _, e := range events {
		if wait(ctx, time.Until(began.Add(e.at))) != nil || time.Since(began) > last {
			return nil
		}
		if err := o.do(ctx, e); err != nil {
			return fmt.Errorf("%s: %w", e.kind, err)
		}
		if err := o.servers.awaitReady(); err != nil {
			return fmt.Errorf("after %s: %w", e.kind, err)
		}
	}
	return nil
}

func (o *operator) do(ctx context.Context, e event) error {
	masters := o.servers.masters()
	if len(masters) == 0 {
		return nil // they recover yet
	}
	master := masters[e.pick%len(masters)]
	switch e.kind {
	case killServer:
		master.Kill()
		o.kills++
		wait(ctx, e.length)
		return o.servers.restart(master)
	case orderSwitch:
		o.servers.failover(master) // who is not ready for it says so, and nothing happens
	case freezeServer:
		all := o.servers.all()
		resume := all[e.pick%len(all)].Pause()
		defer resume()
		wait(ctx, e.length)
	case moveSlots:
		for i := range moved {
			if ctx.Err() != nil {
				break
			}
			o.move(o.slots[(e.pick+i)%len(o.slots)], master)
		}
	}
	return nil
}

// move moves a slot, unless it is there. What fails on the way is done again, as
// an operator would: a slot that is left on the move serves no more.
func (o *operator) move(slot uint16, to *redisserver.Server) {
	for range 5 {
		if from := o.cluster.Owner(slot); from == to {
			return
		}
		if err := o.cluster.MoveSlot(slot, to); err == nil {
			o.moves++
			return
		}
	}
}

// slotsOf returns the slots of the first generation of keys.
func slotsOf(name string, keys int) []uint16 {
	all := make([]uint16, min(keys, 1000))
	for k := range all {
		all[k] = slots.Of(redisKey(name, k, 0))
	}
	return all
}
