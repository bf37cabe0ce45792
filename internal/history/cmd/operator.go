//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/flipcache/flipcache/internal/history"
	"github.com/flipcache/flipcache/internal/history/client"
	"github.com/flipcache/flipcache/internal/redisserver"
	"github.com/flipcache/flipcache/internal/slots"
)

// An operator has masters of a cluster die, change places with their replicas, and give
// slots away whose keys are in use: one after the other. None of it loses a write that
// was acknowledged: what Redis itself loses is no fault of a cache, and could not be told
// from one here. So a master dies when its replica has all that it had.
type operator struct {
	cluster *redisserver.Cluster
	tickets *history.Tickets
	name    string // of the cache
	r       *rand.Rand

	Kills, Failovers, Moves int
}

// The pace of events, and how long before the end of a run the last one begins.
const (
	between    = 1500 * time.Millisecond
	lastBefore = 10 * time.Second
	paused     = 2 * time.Second
)

// operate has things happen until stop is called, which tells what did.
func operate(ctx context.Context, o options, t trial, c *redisserver.Cluster, told own) (stop func() (operator, error), err error) {
	tickets, err := history.OpenTickets(filepath.Join(told.Dir, "writes"))
	if err != nil {
		return nil, err
	}
	op := &operator{cluster: c, tickets: tickets, name: told.Name, r: rand.New(rand.NewPCG(o.seed, 0xc1))}
	ctx, cancel := context.WithTimeout(ctx, max(t.duration-lastBefore, t.duration/2))
	over := make(chan error, 1)
	go func() { over <- op.run(ctx) }()
	return func() (operator, error) {
		cancel()
		err := <-over
		return *op, errors.Join(err, tickets.Close())
	}, nil
}

func (o *operator) run(ctx context.Context) error {
	var turn []func() error
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(between/2 + time.Duration(o.r.Int64N(int64(between)))):
		}
		if len(turn) == 0 {
			turn = []func() error{o.kill, o.failover, o.move, o.move, o.move}
			o.r.Shuffle(len(turn), func(i, j int) { turn[i], turn[j] = turn[j], turn[i] })
		}
		if err := errors.Join(turn[0](), o.cluster.AwaitReady()); err != nil {
			return err
		}
		turn = turn[1:]
	}
}

// slot draws one of a register in use.
func (o *operator) slot() uint16 {
	key := client.Newest(o.tickets) + o.r.Int64N(client.Registers)
	return slots.Of(o.name + ":" + strconv.FormatInt(key, 10))
}

// master draws one that serves keys in use, with a replica.
func (o *operator) master() (master, replica *redisserver.Server) {
	if master = o.cluster.Owner(o.slot()); master == nil {
		return nil, nil
	}
	if all := o.cluster.Replicas(master); len(all) > 0 {
		return master, all[0]
	}
	return nil, nil
}

// kill ends a master at once; it comes back when its replica has its place.
func (o *operator) kill() error {
	master, replica := o.master()
	if master == nil {
		return nil
	}
	if _, err := master.Do("CLIENT", "PAUSE", strconv.FormatInt(paused.Milliseconds(), 10), "WRITE"); err != nil {
		return err
	}
	for end := time.Now().Add(paused / 2); ; {
		had, err := offset(master, "master_repl_offset:")
		if err != nil {
			return err
		}
		has, err := offset(replica, "slave_repl_offset:")
		if err != nil {
			return err
		}
		if has >= had {
			break
		}
		if time.Now().After(end) { // not now
			_, err := master.Do("CLIENT", "UNPAUSE")
			return err
		}
		time.Sleep(time.Millisecond)
	}
	master.Kill()
	o.Kills++
	if err := o.cluster.AwaitMaster(replica); err != nil {
		return err
	}
	return master.Restart()
}

func offset(s *redisserver.Server, field string) (n int64, err error) {
	m, err := s.Do("INFO", "replication")
	if err != nil {
		return 0, err
	}
	info, _ := m.ToString()
	_, after, found := strings.Cut(info, field)
	if !found {
		return 0, fmt.Errorf("%s does not say %s", s.Addr, field)
	}
	_, err = fmt.Sscan(after, &n)
	return n, err
}

// failover has a master and its replica change places, with its consent.
func (o *operator) failover() error {
	master, replica := o.master()
	if master == nil {
		return nil
	}
	if _, err := replica.Do("CLUSTER", "FAILOVER"); err != nil {
		return nil // it is not ready for that
	}
	o.Failovers++
	return nil
}

// move gives the slot of a register to another master. What fails on the way is done
// again: a slot that is left on the move serves no more.
func (o *operator) move() error {
	slot := o.slot()
	to := o.cluster.Owner(o.slot())
	for range 5 {
		if from := o.cluster.Owner(slot); from == nil || to == nil || from == to {
			return nil
		}
		if err := o.cluster.MoveSlot(slot, to); err == nil {
			o.Moves++
			return nil
		}
	}
	return fmt.Errorf("slot %d did not move", slot)
}
