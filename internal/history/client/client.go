//go:build unix

// Package client is the work whose histories are judged: operations drawn at random,
// each written down before its call and after its return.
package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/flipcache/flipcache/hybrid"
	"github.com/flipcache/flipcache/internal/history"
)

// Registers are used in generations, so that each is deleted once at the most and the
// history of a key stays short. A ticket is a write.
const (
	Registers  = 16   // in use at a time
	generation = 3000 // tickets
	deletes    = generation / 2
)

// Newest is the first of the Registers in use.
func Newest(writes *history.Tickets) int64 { return writes.Drawn() / generation * Registers }

// Counters is the key of the first counter; those of registers are less. A ticket is
// an operation.
const Counters = 1 << 24

// A Process is what the clients of one process have in common.
type Process struct {
	Number int16
	Cache  *hybrid.Cache[int32, int64]
	Log    *history.Log
	Now    func() time.Duration // one clock for all processes
	Writes *history.Tickets     // of all processes
	Counts *history.Tickets     // of all processes
	Acked  bool                 // every second register is written by acknowledged writes
}

// A Client does one operation after the other. Not safe for concurrent use.
type Client struct {
	Process
	number int16
	r      *rand.Rand
	values int64
	quiet  bool
}

// New returns a client of p.
func New(p Process, number int, seed uint64) *Client {
	return &Client{Process: p, number: int16(number), r: rand.New(rand.NewPCG(seed, uint64(p.Number)<<32|uint64(number)))}
}

// Step does one operation, drawn at random. An error is one that no fault explains.
func (c *Client) Step(ctx context.Context) error {
	switch n := c.r.IntN(100); {
	case n < 74:
		_, err := c.get(ctx, c.register())
		return err
	case n < 78:
		return c.getMany(ctx)
	case n < 88:
		return c.write(ctx)
	case n < 90:
		return c.setMany(ctx)
	case n < 93:
		return c.getCounter(ctx)
	}
	return c.count(ctx)
}

// register draws one of those in use, seldom one of the generation before.
func (c *Client) register() int32 {
	g := c.Writes.Drawn() / generation
	if g > 0 && c.r.IntN(20) == 0 {
		g--
	}
	// Some are hotter than others: the lower of two.
	return int32(g)*Registers + int32(min(c.r.IntN(Registers), c.r.IntN(Registers)))
}

// value returns one that no other client has.
func (c *Client) value() int64 {
	c.values++
	return int64(c.Number+1)<<48 | int64(c.number)<<40 | c.values
}

// get reads a register; done: it was told what is there.
func (c *Client) get(ctx context.Context, key int32) (done bool, err error) {
	err = c.record(history.Op{Kind: history.Get, Key: key, Quiet: c.quiet}, func(o *history.Op) (err error) {
		o.Value, err = c.Cache.Get(ctx, key)
		if errors.Is(err, hybrid.ErrNotFound) {
			o.Kind = history.Missing
		}
		done = outcome(err) == history.Done
		return err
	})
	return done, err
}

// getMany reads some registers in one call: an operation each.
func (c *Client) getMany(ctx context.Context) error {
	keys := make(map[int32]bool)
	for range 4 {
		keys[c.register()] = true
	}
	var list []int32
	var slots []*history.Op
	began := int64(c.Now())
	for key := range keys {
		slot, err := c.Log.Begin(history.Op{Kind: history.Get, Key: key, Call: began, Process: c.Number, Client: c.number})
		if err != nil {
			return err
		}
		list, slots = append(list, key), append(slots, slot)
	}
	found, err := c.Cache.GetMany(ctx, list)
	ended := int64(c.Now())
	failed := failedKeys(err)
	for i, key := range list {
		o := *slots[i]
		o.Return, o.Outcome = ended, history.Done
		v, there := found[key]
		switch {
		case there:
			o.Value = v
		case err != nil && (failed == nil || failed[strconv.Itoa(int(key))] != nil):
			o.Outcome = history.Refused
		default:
			o.Kind = history.Missing
		}
		*slots[i] = o
	}
	return nil
}

// write sets a register, or deletes it where it is its turn.
func (c *Client) write(ctx context.Context) error {
	ticket := c.Writes.Next()
	key := int32(ticket/generation)*Registers + int32(c.r.IntN(Registers))
	o := history.Op{Kind: history.Set, Key: key, Value: c.value()}
	if i := ticket%generation - deletes; i >= 0 && i < Registers {
		o.Kind, o.Key, o.Value = history.Delete, int32(ticket/generation)*Registers+int32(i), 0
	}
	cache := c.Cache
	if o.Acked = c.Acked && o.Key%2 == 1; o.Acked {
		cache = cache.Acked()
	}
	return c.record(o, func(o *history.Op) error {
		if o.Kind == history.Delete {
			return cache.Delete(ctx, o.Key)
		}
		return cache.Set(ctx, o.Key, o.Value)
	})
}

// setMany sets two registers in one call: an operation each.
func (c *Client) setMany(ctx context.Context) error {
	g := int32(c.Writes.Next() / generation)
	first := c.r.IntN(Registers)
	var slots []*history.Op
	began := int64(c.Now())
	values := make(map[int32]int64)
	for _, i := range []int{first, (first + 1 + c.r.IntN(Registers-1)) % Registers} {
		o := history.Op{Kind: history.Set, Key: g*Registers + int32(i), Value: c.value(), Call: began, Process: c.Number, Client: c.number}
		slot, err := c.Log.Begin(o)
		if err != nil {
			return err
		}
		slots = append(slots, slot)
		values[o.Key] = o.Value
	}
	err := c.Cache.SetMany(ctx, values)
	ended := int64(c.Now())
	failed := failedKeys(err)
	for _, slot := range slots {
		o := *slot
		o.Return, o.Outcome = ended, outcome(err)
		if failed != nil {
			o.Outcome = outcome(failed[strconv.Itoa(int(o.Key))])
		}
		*slot = o
	}
	return nil
}

// failedKeys returns the errors of single keys that are joined in err; nil: none is.
func failedKeys(err error) map[string]error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return nil
	}
	failed := make(map[string]error)
	for _, e := range joined.Unwrap() {
		var of *hybrid.Error
		if !errors.As(e, &of) || of.Key == "" {
			return nil
		}
		failed[of.Key] = e
	}
	return failed
}

// getCounter reads a counter of now by way of the local tier.
func (c *Client) getCounter(ctx context.Context) error {
	key := int32(Counters + max(0, c.Counts.Drawn()-1)/history.Piece)
	_, err := c.get(ctx, key)
	return err
}

// count changes a counter, or reads it past the local tiers.
func (c *Client) count(ctx context.Context) error {
	key := int32(Counters + c.Counts.Next()/history.Piece)
	o := history.Op{Kind: history.Fresh, Key: key, Delta: 1 + c.r.Int64N(9)}
	switch c.r.IntN(5) {
	case 0, 1:
		o.Kind = history.Incr
	case 2, 3:
		o.Kind = history.Update
	}
	return c.record(o, func(o *history.Op) (err error) {
		switch o.Kind {
		case history.Incr:
			o.Value, err = hybrid.Incr(ctx, c.Cache, key, o.Delta)
		case history.Update:
			var sum int64
			sum, err = c.Cache.Update(ctx, key, func(old int64, _ bool) (int64, error) {
				o.Old, o.Value = old, old+o.Delta
				return o.Value, nil
			})
			if err == nil {
				o.Value = sum
			}
		default:
			if o.Value, err = c.Cache.Fresh().Get(ctx, key); errors.Is(err, hybrid.ErrNotFound) {
				o.Value = 0
			}
		}
		return err
	})
}

// Rest reads the registers of the last generations once, each as soon as that succeeds,
// until ctx ends: when all is quiet.
func (c *Client) Rest(ctx context.Context) error {
	c.quiet = true
	defer func() { c.quiet = false }()
	for _, key := range Rested(c.Writes) {
		for {
			done, err := c.get(ctx, key)
			if err != nil {
				return err
			}
			if done {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("key %d cannot be read when all is quiet: %w", key, ctx.Err())
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	return nil
}

// Rested are the registers that are compared with Redis at last.
func Rested(writes *history.Tickets) (keys []int32) {
	last := writes.Drawn() / generation
	for g := max(0, last-2); g <= last; g++ {
		for i := range int64(Registers) {
			keys = append(keys, int32(g*Registers+i))
		}
	}
	return keys
}

// Truth returns what Redis holds of them, as read says, past the library.
func Truth(writes *history.Tickets, now func() time.Duration, read func(key int32) (value int64, there bool, err error)) (ops []history.Op, err error) {
	for _, key := range Rested(writes) {
		o := history.Op{Kind: history.Get, Process: history.Redis, Key: key, Outcome: history.Done, Quiet: true, Call: int64(now())}
		var there bool
		if o.Value, there, err = read(key); err != nil {
			return nil, fmt.Errorf("key %d of Redis: %w", key, err)
		}
		if !there {
			o.Kind = history.Missing
		}
		o.Return = int64(now())
		ops = append(ops, o)
	}
	return ops, nil
}

// Judge returns the promises that the history of one key broke. Undecided: limit was
// too short for that of a counter, whose picture goes into dir, if that is not empty.
func Judge(key int32, ops []history.Op, rules history.Rules, limit time.Duration, dir string) (broken []history.Violation, undecided bool, err error) {
	if key < Counters {
		return history.Check(ops, rules), false, nil
	}
	broken, undecided, err = history.CheckCounter(ops, limit, dir)
	return append(broken, history.CheckReads(ops, rules)...), undecided, err
}

// record writes o down, has do done, and completes what was written.
func (c *Client) record(o history.Op, do func(*history.Op) error) error {
	o.Process, o.Client = c.Number, c.number
	o.Call = int64(c.Now())
	slot, err := c.Log.Begin(o)
	if err != nil {
		return err
	}
	err = do(&o)
	o.Return = int64(c.Now())
	o.Outcome = outcome(err)
	o.Acked = o.Acked && err == nil
	*slot = o
	if ended := errors.Is(err, hybrid.ErrClosed) || errors.Is(err, hybrid.ErrOption) || errors.Is(err, hybrid.ErrDecode); ended {
		return err // nothing that a fault explains
	}
	return nil
}

// outcome is what an error of the library says of a write; what it says of a read that
// failed is nothing.
func outcome(err error) history.Outcome {
	switch {
	case err == nil, errors.Is(err, hybrid.ErrNotFound), errors.Is(err, hybrid.ErrUnconfirmed):
		return history.Done
	case errors.Is(err, hybrid.ErrOutcomeUnknown):
		return history.Unknown
	}
	return history.Refused
}
