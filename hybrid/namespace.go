package hybrid

import (
	"context"
	"iter"
	"slices"
	"strings"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/invalidate"
)

// scanCount is how many keys of the whole database Redis looks at in one step
// of a scan: some tenths of a millisecond.
const scanCount = 1000

// Keys ranges over the keys of the cache that are in Redis, in no order, each
// once. A key that comes or goes meanwhile may be seen or not. An error is
// yielded once, and ends it. It asks in steps of 1,000 keys of the database, and
// remembers the keys that it has seen.
//
// Errors: ErrPermission, ErrClosed, ctx's error, or that of the connection.
func (c *Cache[K, V]) Keys(ctx context.Context) iter.Seq2[K, error] {
	return func(yield func(K, error) bool) {
		seen := make(map[K]bool)
		err := c.scan(ctx, globEscape(c.prefix)+"*", func(keys []string) (bool, error) {
			for _, k := range keys {
				key, ok := parseKey[K](strings.TrimPrefix(k, c.prefix))
				if !ok || seen[key] {
					continue
				}
				seen[key] = true
				if !yield(key, nil) {
					return false, nil
				}
			}
			return true, nil
		})
		if err != nil {
			var zero K
			yield(zero, c.failOp("keys", redisError(err)))
		}
	}
}

// Count returns the number of the cache's keys in Redis. Its cost is that of
// Keys.
//
// Errors: those of Keys.
func (c *Cache[K, V]) Count(ctx context.Context) (n int, err error) {
	for _, err := range c.Keys(ctx) {
		if err != nil {
			return 0, c.failOp("count", err.(*Error).Err)
		}
		n++
	}
	return n, nil
}

// Clear removes all keys of the cache, and has it that no load that began
// before stores its value afterwards. It goes through the database in bounded
// steps and removes what each brings, with its announcement, in one; keys
// written meanwhile by others may stay. If it fails half way, or ctx ends, what
// was removed was announced, and calling it again goes on.
//
// Errors: those of Keys, and ErrOutcomeUnknown for the last step.
func (c *Cache[K, V]) Clear(ctx context.Context) error {
	err := c.clear(ctx)
	if err == nil {
		err = c.confirm(ctx)
	}
	if err != nil {
		return c.failOp("clear", redisError(err))
	}
	return nil
}

func (c *Cache[K, V]) clear(ctx context.Context) error {
	if err := c.ready(ctx); err != nil {
		return err
	}
	c.flights.BeginClear()
	defer c.flights.EndClear()
	// The tokens first: a load that lays its token later than this one is of
	// after the clear's beginning.
	err := c.scan(ctx, globEscape(reserved)+":*", func(keys []string) (bool, error) {
		ours := slices.DeleteFunc(keys, func(k string) bool { return !isToken(k, c.prefix) })
		return true, c.unlink(ctx, ours)
	})
	if err != nil {
		return err
	}
	err = c.scan(ctx, globEscape(c.prefix)+"*", func(keys []string) (bool, error) {
		return true, c.unlink(ctx, keys)
	})
	if err != nil || c.channel == "" {
		return err
	}
	ctx, cancel := c.store.bound(ctx)
	defer cancel()
	commands := []rueidis.Completed{c.announceAll(c.store.client)}
	if c.store.inCluster { // EXISTS brings it to a master
		commands = append(commands, c.store.client.B().Exists().Key(c.prefix).Build())
	}
	return writeError(c.store.tell(ctx, c.store.client, commands)[0].Error())
}

// announceAll is the command that tells of a change of any key.
func (c *Cache[K, V]) announceAll(cl rueidis.Client) rueidis.Completed {
	c.counters.sent.Add(1)
	message := rueidis.BinaryString(invalidate.AppendAll(nil, c.store.stream.Sender()))
	return cl.B().Publish().Channel(c.channel).Message(message).Build()
}

// unlink removes what one step of a scan brought, in one step with a message
// that drops the whole cache: keys by the hundred would cost subscribers more
// than to forget all of what is about to go anyway.
func (c *Cache[K, V]) unlink(ctx context.Context, keys []string) error {
	if len(keys) == 0 {
		return nil
	}
	ctx, cancel := c.store.bound(ctx)
	defer cancel()
	if c.store.inCluster {
		return c.unlinkInCluster(ctx, keys)
	}
	cl := c.store.client
	b := cl.B()
	commands := []rueidis.Completed{b.Multi().Build()}
	for _, k := range keys {
		commands = append(commands, b.Unlink().Key(k).Build())
	}
	if c.channel != "" {
		commands = append(commands, c.announceAll(cl))
	}
	for _, r := range c.store.tell(ctx, cl, append(commands, b.Exec().Build())) {
		if err := r.Error(); err != nil {
			return writeError(err)
		}
	}
	c.counters.writes.Add(uint64(len(keys)))
	return nil
}

// scan hands each the keys that match, some of them twice, a batch at a time,
// until it returns false or an error.
func (c *Cache[K, V]) scan(ctx context.Context, match string, each func(keys []string) (bool, error)) error {
	if err := c.store.ready(ctx); err != nil {
		return err
	}
	if c.store.inCluster {
		return c.scanCluster(ctx, match, each)
	}
	b := c.store.client.B()
	_, err := c.scanOne(ctx, func(cursor uint64) []rueidis.Completed {
		return []rueidis.Completed{b.Scan().Cursor(cursor).Match(match).Count(scanCount).Build()}
	}, each)
	return err
}

// scanOne scans one server, by commands of which the last is SCAN. It returns false
// where each did.
func (c *Cache[K, V]) scanOne(ctx context.Context, commands func(cursor uint64) []rueidis.Completed, each func(keys []string) (bool, error)) (goOn bool, err error) {
	for cursor := uint64(0); ; {
		if err := c.store.ready(ctx); err != nil {
			return false, err
		}
		step, cancel := c.store.bound(ctx)
		rs := c.store.ask(step, c.store.client, func() []rueidis.Completed { return commands(cursor) })
		cancel()
		page, err := rs[len(rs)-1].AsScanEntry()
		if err != nil {
			return false, err
		}
		if goOn, err := each(page.Elements); err != nil || !goOn {
			return false, err
		}
		if cursor = page.Cursor; cursor == 0 {
			return true, nil
		}
	}
}

// globEscape has Redis' patterns take s for what it is.
var globEscape = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`).Replace
