package hybrid

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/internal/clock"
	"github.com/flipcache/flipcache/internal/flights"
	"github.com/flipcache/flipcache/invalidate"
)

// forEver is the life of a key without TTL.
const forEver = time.Duration(clock.Never)

// maxReadBack is the longest value that a write keeps locally with
// invalidate.Tracking, where it has to be read back to be tracked.
const maxReadBack = 1 << 10

// maxValue is Redis' default limit of a string (proto-max-bulk-len).
const maxValue = 512 << 20

// Set stores v under key, for the cache's TTL, and announces it: one round
// trip. Where no other write of the key is under way in this process, the next
// local read finds v in the local tier.
//
// Errors: ErrEncode, ErrTooLarge, ErrPermission, ErrOutcomeUnknown, ErrClosed,
// ctx's error if it had ended before, or what Redis said.
func (c *Cache[K, V]) Set(ctx context.Context, key K, v V) error {
	return c.set(ctx, "set", key, v, c.life())
}

// SetTTL is Set with a TTL of its own: at least 1 ms, fractions of a
// millisecond are cut off.
//
// Errors: those of Set, and ErrOption for a TTL out of range.
func (c *Cache[K, V]) SetTTL(ctx context.Context, key K, v V, ttl time.Duration) error {
	if err := checkTTL("ttl", ttl); err != nil {
		return c.fail("setttl", key, err)
	}
	return c.set(ctx, "setttl", key, v, ttl.Truncate(time.Millisecond))
}

// life returns the life of a key that is written now.
func (c *Cache[K, V]) life() time.Duration {
	switch {
	case c.ttl == 0:
		return forEver
	case c.jitter > 0:
		short := time.Duration(float64(c.ttl) * c.jitter * rand.Float64())
		return max(minTTL, (c.ttl - short).Truncate(time.Millisecond))
	}
	return c.ttl
}

// px is a life as the scripts take it: in milliseconds, empty for no end.
func px(life time.Duration) string {
	if life == forEver {
		return ""
	}
	return strconv.FormatInt(life.Milliseconds(), 10)
}

func (c *Cache[K, V]) set(ctx context.Context, op string, key K, v V, ttl time.Duration) error {
	if err := c.ready(ctx); err != nil {
		return c.fail(op, key, err)
	}
	p, err := c.encode(key, v, ttl)
	if err != nil {
		return c.fail(op, key, err)
	}
	if c.write(ctx, []*change[K, V]{p}); p.err == nil {
		p.err = c.confirm(ctx, key)
	}
	if p.err != nil {
		return c.fail(op, key, p.err)
	}
	return nil
}

// A change is one key's part in a write.
type change[K Key, V any] struct {
	key      K
	text     string // of the key
	commands []rueidis.Completed
	space    [2]rueidis.Completed // for commands
	line     [5]rueidis.Completed // for those and what is read around them
	size     int
	keep     bool          // value enters the tier
	value    V             // if keep
	ttl      time.Duration // of value
	data     string        // with Tracking and keep: value's bytes, which have to be read back
	buffer   *[]byte       // that holds them, from buffers; nil: none

	flight *flights.Write[K, V]
	err    error // how it ended
}

func (c *Cache[K, V]) encode(key K, v V, ttl time.Duration) (*change[K, V], error) {
	p := &change[K, V]{key: key, text: keyText(key), keep: c.tier != nil, ttl: ttl}
	redisKey := c.prefix + p.text
	if c.text == nil {
		p.buffer = buffers.Get().(*[]byte)
	}
	data, err := c.bytes(redisKey, v, p.buffer)
	if err != nil {
		return nil, err
	}
	p.size = len(data)
	if c.store.mode == invalidate.Tracking {
		p.keep = p.keep && p.size <= maxReadBack
		p.data = data
	}
	if p.keep {
		p.value = c.copied(v)
	}
	b := c.data.B()
	p.commands = p.space[:0]
	set := b.Set().Key(redisKey).Value(data)
	if ttl == forEver {
		p.commands = append(p.commands, set.Build())
	} else {
		p.commands = append(p.commands, set.PxMilliseconds(ttl.Milliseconds()).Build())
	}
	if ttl < tokenLife { // it may be gone while a load that began before it still runs
		p.commands = append(p.commands, b.Unlink().Key(tokenKey(redisKey)).Build())
	}
	return p, nil
}

// buffers are what values are encoded into.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// maxPooled is the size of the largest buffer that is kept for others.
const maxPooled = 64 << 10

// bytes returns what is stored of v under redisKey, in buffer if that is not nil:
// then it is good until the buffer is used again.
func (c *Cache[K, V]) bytes(redisKey string, v V, buffer *[]byte) (string, error) {
	var data string
	if c.text != nil {
		data = c.text.EncodeText(v)
	} else {
		var b []byte
		if buffer != nil {
			b = (*buffer)[:0]
		}
		b, err := c.codec.Append(b, v)
		if buffer != nil {
			*buffer = b
		}
		if err != nil && !errors.Is(err, ErrEncode) {
			err = fmt.Errorf("%w: %w", ErrEncode, err)
		}
		if err != nil {
			return "", err
		}
		data = rueidis.BinaryString(b)
	}
	switch {
	case len(data) > maxValue:
		return "", fmt.Errorf("%w: the value has %d bytes", ErrTooLarge, len(data))
	case len(redisKey) > maxValue:
		return "", fmt.Errorf("%w: the key has %d bytes", ErrTooLarge, len(redisKey))
	}
	return data, nil
}

// SetMany stores the values of m as Set does, in batches of at most 256 keys.
// It is not atomic: each batch is, with its announcement.
//
// Errors: those of Set for single keys, joined, each with its key; what was
// not named was stored.
func (c *Cache[K, V]) SetMany(ctx context.Context, m map[K]V) error {
	if err := c.ready(ctx); err != nil {
		return c.failEach("setmany", maps.Keys(m), err)
	}
	var errs []error
	changes := make([]*change[K, V], 0, len(m))
	for key, v := range m {
		p, err := c.encode(key, v, c.life())
		if err != nil {
			errs = append(errs, c.fail("setmany", key, err))
			continue
		}
		changes = append(changes, p)
	}
	return errors.Join(append(errs, c.writeAll(ctx, "setmany", changes)...)...)
}

// Delete removes keys, and has it that no load that began before stores its
// value afterwards. Keys that are not there are no error. Several keys go in
// batches, as with SetMany.
//
// Errors: those of Set for single keys, joined, each with its key.
func (c *Cache[K, V]) Delete(ctx context.Context, keys ...K) error {
	if err := c.ready(ctx); err != nil {
		return c.failEach("delete", slices.Values(keys), err)
	}
	changes := make([]*change[K, V], 0, len(keys))
	b := c.data.B()
	for _, key := range keys {
		text := keyText(key)
		redisKey := c.prefix + text
		changes = append(changes, &change[K, V]{key: key, text: text, commands: []rueidis.Completed{
			b.Unlink().Key(redisKey, tokenKey(redisKey)).Build(),
		}})
	}
	return errors.Join(c.writeAll(ctx, "delete", changes)...)
}

// failEach is the error of each of keys.
func (c *Cache[K, V]) failEach(op string, keys iter.Seq[K], err error) error {
	var errs []error
	for key := range keys {
		errs = append(errs, c.fail(op, key, err))
	}
	return errors.Join(errs...)
}

// writeAll writes changes in batches and returns an error for each that failed.
func (c *Cache[K, V]) writeAll(ctx context.Context, op string, changes []*change[K, V]) (errs []error) {
	const maxBytes = 1 << 20 // of values in a batch
	defer func(all []*change[K, V]) {
		if len(errs) < len(all) {
			var keys []K
			for _, p := range all {
				keys = append(keys, p.key)
			}
			if err := c.confirm(ctx, keys...); err != nil {
				errs = append(errs, c.failAll(op, err))
			}
		}
	}(changes)
	for len(changes) > 0 {
		n, size := 0, 0
		for n < len(changes) && n < maxBatch && (n == 0 || size+changes[n].size <= maxBytes) {
			size += changes[n].size
			n++
		}
		batch := changes[:n]
		changes = changes[n:]
		err := c.store.ready(ctx)
		if err == nil {
			c.write(ctx, batch)
		}
		for _, p := range batch {
			if err := cmp.Or(err, p.err); err != nil {
				errs = append(errs, c.fail(op, p.key, err))
			}
		}
	}
	return errs
}

// write sends changes with their announcement as one step and ends their
// flights. It sets the error of each.
func (c *Cache[K, V]) write(ctx context.Context, changes []*change[K, V]) {
	if !c.ofOneSlot(changes) {
		c.writeBySlot(ctx, changes)
		return
	}
	var nonce uint64
	var messages []string
	if c.channel != "" {
		texts := make([]string, len(changes))
		for i, p := range changes {
			texts[i] = p.text
		}
		nonce, messages = c.announcement(texts)
	}
	for i, p := range changes {
		p.flight = c.flights.BeginWrite(p.key, nonceOf(nonce, i), nil)
		p.err = ErrOutcomeUnknown // should anything below panic
	}
	var sent int64
	defer func() {
		for _, p := range changes {
			r := reply[V]{Value: p.value, Size: p.size, Born: sent}
			if p.keep && p.err == nil {
				r.Deadline, r.Keep = c.deadline(sent, p.ttl)
			}
			c.flights.EndWrite(p.flight, p.err == nil, r)
			if p.err == nil && p.buffer != nil && cap(*p.buffer) <= maxPooled { // else a connection's writer may still read it
				buffers.Put(p.buffer)
				p.buffer = nil
			}
		}
	}()
	c.store.at(beforeWriteSend, c.prefix, changes[0].text)

	ctx, cancel := c.store.bound(ctx)
	defer cancel()
	// A write that is kept in Tracking is [EXISTS][SET][GET][PTTL]. The EXISTS has
	// Redis track the key, so that the SET itself pushes; where the tier had an entry,
	// Redis tracks the key already, or has pushed since: not so in a cluster, if the
	// slot has moved. If the GET behind that
	// push returns what was written, and no second push came before it, then nobody
	// else has written meanwhile, and whoever does from now on is heard. Who has
	// shortened the key's life between SET and GET was not: hence the PTTL.
	//
	// Model: tracking, own write without EXISTS
	// Model: tracking, own write, GET's value not compared, its own enters
	// Model: tracking, lives: an own write reckons with the life it wrote
	s := step{all: changes[0].line[:0], messages: messages}
	readBack := func(p *change[K, V]) bool { return p.keep && c.store.mode == invalidate.Tracking }
	for _, p := range changes {
		if readBack(p) && (!p.flight.Held() || c.store.inCluster) {
			s.all = append(s.all, c.data.B().Exists().Key(c.prefix+p.text).Build())
		}
	}
	s.before = len(s.all)
	for _, p := range changes {
		s.all = append(s.all, p.commands...)
	}
	s.end = len(s.all)
	for _, p := range changes {
		if readBack(p) {
			s.all = c.appendRead(s.all, c.prefix+p.text)
		}
	}
	sent = c.store.clock.Exact()
	replies, before, after, err := c.transact(ctx, s)
	c.store.at(afterWriteReply, c.prefix, changes[0].text)
	tracked := !slices.ContainsFunc(before, func(r rueidis.RedisResult) bool { return r.Error() != nil }) // a user may have no right to EXISTS
	for _, p := range changes {
		p.keep = p.keep && tracked
		p.err = err
		for range p.commands {
			if err == nil && p.err == nil {
				p.err = writeError(replies[0].Error())
				replies = replies[1:]
			}
		}
		if readBack(p) {
			now, err := after[0].ToString()
			if p.keep = err == nil && now == p.data; p.keep {
				p.ttl, p.keep = life(after[1])
			}
			after = after[2:]
		}
	}
	c.counters.writes.Add(uint64(len(changes)))
}

// nonceOf is the i-th nonce after base, and none where there is no base.
func nonceOf(base uint64, i int) uint64 {
	if base == 0 {
		return 0
	}
	return base + uint64(i)
}

// announcement returns the messages that tell of a change of keys, and the
// nonce of the first: nothing with invalidate.Off.
func (c *Cache[K, V]) announcement(keys []string) (nonce uint64, messages []string) {
	if c.channel == "" {
		return 0, nil
	}
	s := c.store.stream
	c.counters.sent.Add(uint64(len(keys)))
	base := s.Nonces(len(keys))
	if nonce = base; c.store.mode == invalidate.Tracking {
		base = 0 // no echo comes back
	}
	for len(keys) > 0 {
		m, n := invalidate.AppendKeys(nil, s.Sender(), nonce, keys)
		if n == 0 { // too long for a message
			return base, []string{rueidis.BinaryString(invalidate.AppendAll(nil, s.Sender()))}
		}
		messages = append(messages, rueidis.BinaryString(m))
		keys = keys[n:]
		nonce += uint64(n)
	}
	return base, messages
}

// A step is what a write sends in one round trip: all[before:end] and messages as
// one step, between what is read before and after.
type step struct {
	all         []rueidis.Completed
	before, end int
	messages    []string
}

// transact sends s, and returns the replies to its commands, and to what comes
// before and after them.
func (c *Cache[K, V]) transact(ctx context.Context, s step) (replies []rueidis.RedisMessage, before, after []rueidis.RedisResult, err error) {
	if len(s.messages) == 0 && s.end-s.before == 1 {
		results := c.store.tell(ctx, c.data, s.all)
		m, err := results[s.before].ToMessage()
		return []rueidis.RedisMessage{m}, results[:s.before], results[s.end:], writeError(err)
	}
	// Model: pubsub, SET and PUBLISH in two steps, the writer may die between
	b := c.data.B()
	all := append(make([]rueidis.Completed, 0, len(s.all)+len(s.messages)+2), s.all[:s.before]...)
	all = append(append(all, b.Multi().Build()), s.all[s.before:s.end]...)
	for _, m := range s.messages {
		all = append(all, b.Publish().Channel(c.channel).Message(m).Build())
	}
	all = append(all, b.Exec().Build())
	end := len(all)
	results := c.store.tell(ctx, c.data, append(all, s.all[s.end:]...))
	before, results, after = results[:s.before], results[s.before:end], results[end:]
	for _, r := range results[:len(results)-1] { // what EXEC says of a refused command is less clear
		if err := r.Error(); err != nil {
			return nil, before, after, writeError(err)
		}
	}
	replies, err = results[len(results)-1].ToArray()
	if err == nil && len(replies) < s.end-s.before {
		err = errors.New("EXEC returned " + strconv.Itoa(len(replies)) + " replies")
	}
	return replies, before, after, writeError(err)
}

// Touch sets the remaining life of key in Redis to ttl: at least 1 ms,
// fractions of a millisecond are cut off. It is announced if it shortens the
// life. One round trip.
//
// Errors: ErrNotFound, ErrOption for a ttl out of range, and those of Set.
func (c *Cache[K, V]) Touch(ctx context.Context, key K, ttl time.Duration) error {
	if err := checkTTL("ttl", ttl); err != nil {
		return c.fail("touch", key, err)
	}
	done, err := c.script(ctx, key, touchScript, c.prefix+keyText(key), px(ttl.Truncate(time.Millisecond)), px(tokenLife))
	if err != nil {
		return c.fail("touch", key, err)
	}
	if n, err := done.AsInt64(); err != nil || n == 0 {
		return ErrNotFound
	}
	if err := c.confirm(ctx, key); err != nil {
		return c.fail("touch", key, err)
	}
	return nil
}
