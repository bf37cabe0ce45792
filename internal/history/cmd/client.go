//go:build unix

package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"

	"github.com/flipcache/flipcache/hybrid"
	"github.com/flipcache/flipcache/internal/history"
	"github.com/flipcache/flipcache/internal/judge"
)

// A client does one operation after the other.
type client struct {
	*job
	number int16
	r      *rand.Rand
	values int64
	quiet  bool
}

// step does one operation, drawn at random.
func (c *client) step(ctx context.Context) error {
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
func (c *client) register() int32 {
	g := c.writes.Drawn() / generation
	if g > 0 && c.r.IntN(20) == 0 {
		g--
	}
	// Some are hotter than others: the lower of two.
	return int32(g)*registers + int32(min(c.r.IntN(registers), c.r.IntN(registers)))
}

// value returns one that no other client has.
func (c *client) value() int64 {
	c.values++
	return int64(c.Worker+1)<<48 | int64(c.number)<<40 | c.values
}

// get reads a register; done: it was told what is there.
func (c *client) get(ctx context.Context, key int32) (done bool, err error) {
	err = c.record(history.Op{Kind: history.Get, Key: key, Client: c.number, Quiet: c.quiet}, func(o *history.Op) (err error) {
		o.Value, err = c.cache.Get(ctx, key)
		if errors.Is(err, hybrid.ErrNotFound) {
			o.Kind = history.Missing
		}
		done = outcome(err) == history.Done
		return err
	})
	return done, err
}

// getMany reads some registers in one call: an operation each.
func (c *client) getMany(ctx context.Context) error {
	keys := make(map[int32]bool)
	for range 4 {
		keys[c.register()] = true
	}
	var list []int32
	var slots []*history.Op
	began := int64(judge.Now())
	for key := range keys {
		slot, err := c.log.Begin(history.Op{Kind: history.Get, Key: key, Call: began, Process: int16(c.Worker), Client: c.number})
		if err != nil {
			return err
		}
		list, slots = append(list, key), append(slots, slot)
	}
	found, err := c.cache.GetMany(ctx, list)
	ended := int64(judge.Now())
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
func (c *client) write(ctx context.Context) error {
	ticket := c.writes.Next()
	key := int32(ticket/generation)*registers + int32(c.r.IntN(registers))
	o := history.Op{Kind: history.Set, Key: key, Client: c.number, Value: c.value()}
	if i := ticket%generation - deletes; i >= 0 && i < registers {
		o.Kind, o.Key, o.Value = history.Delete, int32(ticket/generation)*registers+int32(i), 0
	}
	cache := c.cache
	if o.Acked = c.own.Acked && o.Key%2 == 1; o.Acked {
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
func (c *client) setMany(ctx context.Context) error {
	g := int32(c.writes.Next() / generation)
	first := c.r.IntN(registers)
	var slots []*history.Op
	began := int64(judge.Now())
	values := make(map[int32]int64)
	for _, i := range []int{first, (first + 1 + c.r.IntN(registers-1)) % registers} {
		o := history.Op{Kind: history.Set, Key: g*registers + int32(i), Value: c.value(), Call: began, Process: int16(c.Worker), Client: c.number}
		slot, err := c.log.Begin(o)
		if err != nil {
			return err
		}
		slots = append(slots, slot)
		values[o.Key] = o.Value
	}
	err := c.cache.SetMany(ctx, values)
	ended := int64(judge.Now())
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
func (c *client) getCounter(ctx context.Context) error {
	key := int32(counters + max(0, c.counts.Drawn()-1)/history.Piece)
	_, err := c.get(ctx, key)
	return err
}

// count changes a counter, or reads it past the local tiers.
func (c *client) count(ctx context.Context) error {
	key := int32(counters + c.counts.Next()/history.Piece)
	o := history.Op{Kind: history.Fresh, Key: key, Client: c.number, Delta: 1 + c.r.Int64N(9)}
	switch c.r.IntN(5) {
	case 0, 1:
		o.Kind = history.Incr
	case 2, 3:
		o.Kind = history.Update
	}
	return c.record(o, func(o *history.Op) (err error) {
		switch o.Kind {
		case history.Incr:
			o.Value, err = hybrid.Incr(ctx, c.cache, key, o.Delta)
		case history.Update:
			var sum int64
			sum, err = c.cache.Update(ctx, key, func(old int64, _ bool) (int64, error) {
				o.Old, o.Value = old, old+o.Delta
				return o.Value, nil
			})
			if err == nil {
				o.Value = sum
			}
		default:
			if o.Value, err = c.cache.Fresh().Get(ctx, key); errors.Is(err, hybrid.ErrNotFound) {
				o.Value = 0
			}
		}
		return err
	})
}
