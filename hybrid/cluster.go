package hybrid

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/internal/slots"
	"github.com/flipcache/flipcache/invalidate"
)

// In a Redis Cluster each key has a slot, and each slot a master. What goes out as
// one step (MULTI, a script, a command of several keys) has to be of one slot.

// maxNegativeInCluster bounds how long "not found" is remembered in a cluster. Redis
// does not tell of a missing key that is created after its slot has moved, or while it
// moves; the probe sees that the slot has moved, but without a lease it comes every 5 s
// only, and while it moves it sees nothing: MaxStaleness bounds it, too.
const maxNegativeInCluster = time.Second

// checkCluster says whether this Store works in a cluster, which it is in.
func (o StoreOptions) checkCluster() error {
	switch {
	case o.Client.ForceSingleClient:
		return optionError("Client.ForceSingleClient is set, and the server is a Redis Cluster's: leave it out")
	case o.Invalidation == invalidate.PubSub && o.MaxStaleness > 0:
		return optionError("MaxStaleness is %v with invalidate.PubSub, and the server is a Redis Cluster's, whose nodes may lose messages to each other unseen: "+
			"use invalidate.Tracking, or leave MaxStaleness out", o.MaxStaleness)
	}
	return nil
}

// writeBySlot is write for changes of several slots: one step for each slot, all at
// once, which the client sends as one pipeline a master.
func (c *Cache[K, V]) writeBySlot(ctx context.Context, changes []*change[K, V]) {
	groups := make(map[uint16][]*change[K, V])
	for _, p := range changes {
		slot := slots.Of(c.prefix + p.text)
		groups[slot] = append(groups[slot], p)
	}
	var wg sync.WaitGroup
	for _, group := range groups {
		wg.Go(func() { c.write(ctx, group) })
	}
	wg.Wait()
}

// ofOneSlot says whether changes can go out as one step.
func (c *Cache[K, V]) ofOneSlot(changes []*change[K, V]) bool {
	if !c.store.inCluster || len(changes) < 2 {
		return true
	}
	first := slots.Of(c.prefix + changes[0].text)
	return !slices.ContainsFunc(changes[1:], func(p *change[K, V]) bool { return slots.Of(c.prefix+p.text) != first })
}

// Pauses between attempts at what a moving slot refuses.
const (
	minMovePause = time.Millisecond
	maxMovePause = 50 * time.Millisecond
)

// whileMoving does what a slot refuses while it moves and one of two keys has and the
// other has not: until it does not, or ctx ends. Nothing was done then, so that do
// may do it again.
func whileMoving(ctx context.Context, do func() []rueidis.RedisResult) []rueidis.RedisResult {
	for pause := minMovePause; ; pause = min(2*pause, maxMovePause) {
		results := do()
		if !slices.ContainsFunc(results, isTryAgain) {
			return results
		}
		select {
		case <-ctx.Done():
			return results
		case <-time.After(pause):
		}
	}
}

func isTryAgain(r rueidis.RedisResult) bool {
	re, ok := rueidis.IsRedisErr(r.Error())
	return ok && re.IsTryAgain()
}

// pinned keeps commands from being used for others once they were answered.
func pinned(commands []rueidis.Completed) []rueidis.Completed {
	for i := range commands {
		commands[i] = commands[i].Pin()
	}
	return commands
}

// breakerOf returns the breaker of those who are asked by commands: in a cluster one
// master may be dead and others not. Where several may be asked there is none, but one
// that is never open.
func (s *Store) breakerOf(commands []rueidis.Completed) *breaker {
	if !s.inCluster {
		return &s.breaker
	}
	found := -1
	for _, c := range commands {
		switch slot := int(c.Slot()); {
		case slot >= slots.Count || slot == found: // of no key
		case found >= 0:
			return new(breaker)
		default:
			found = slot
		}
	}
	if found < 0 {
		return new(breaker)
	}
	return s.breakerOfSlot(uint16(found))
}

func (s *Store) breakerOfSlot(slot uint16) *breaker {
	return &s.breakers[int(slot)*len(s.breakers)/slots.Count]
}

// A home is one master of a cluster.
type home struct {
	id  string
	key string // in one of its slots; nothing is there
}

// homes returns the masters, and the table by which keys are theirs.
func (s *Store) homes(ctx context.Context) (table string, all []home, err error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	b := s.client.B()
	nodes, err := s.ask(ctx, s.client, func() []rueidis.Completed { // EXISTS brings it to a master
		return []rueidis.Completed{b.Exists().Key(checkCache).Build(), b.Arbitrary("CLUSTER", "NODES").Build()}
	})[1].ToString()
	if err != nil {
		return "", nil, fmt.Errorf("CLUSTER NODES: %w", err)
	}
	v, err := slots.ParseNodes(nodes)
	if err != nil {
		return "", nil, err
	}
	for _, id := range slices.Sorted(maps.Keys(v.Masters)) {
		all = append(all, home{id, checkCache + ":{" + v.Masters[id] + "}"})
	}
	return v.Table, all, nil
}

// scanCluster is scan in a cluster: over all masters, and again if slots have moved
// meanwhile, since a key that moves may be missed.
func (c *Cache[K, V]) scanCluster(ctx context.Context, match string, each func(keys []string) (bool, error)) error {
	s := c.store
	b := s.client.B()
	for {
		table, masters, err := s.homes(ctx)
		if err != nil {
			return err
		}
		for _, m := range masters {
			goOn, err := c.scanOne(ctx, func(cursor uint64) []rueidis.Completed { // EXISTS brings it to the master
				return []rueidis.Completed{b.Exists().Key(m.key).Build(), b.Scan().Cursor(cursor).Match(match).Count(scanCount).Build()}
			}, each)
			if err != nil || !goOn {
				return err
			}
		}
		if now, _, err := s.homes(ctx); err != nil || now == table {
			return err
		}
	}
}

// unlinkInCluster removes keys, those of a slot in one step with a message that names
// them.
func (c *Cache[K, V]) unlinkInCluster(ctx context.Context, keys []string) error {
	if len(keys) == 0 {
		return nil
	}
	ctx, cancel := c.store.bound(ctx)
	defer cancel()
	b := c.store.client.B()
	if c.channel == "" { // one pipeline a master
		commands := make([]rueidis.Completed, len(keys))
		for i, k := range keys {
			commands[i] = b.Unlink().Key(k).Build()
		}
		for _, r := range c.store.tell(ctx, c.store.client, commands) {
			if err := r.Error(); err != nil {
				return writeError(err)
			}
		}
		c.counters.writes.Add(uint64(len(keys)))
		return nil
	}
	groups := make(map[uint16][]string)
	for _, k := range keys {
		groups[slots.Of(k)] = append(groups[slots.Of(k)], k)
	}
	errs := make(chan error, len(groups))
	for _, group := range groups {
		go func() {
			commands := []rueidis.Completed{b.Multi().Build()}
			texts := make([]string, 0, len(group))
			for _, k := range group {
				commands = append(commands, b.Unlink().Key(k).Build())
				if text, ok := strings.CutPrefix(k, c.prefix); ok { // else a token
					texts = append(texts, text)
				}
			}
			if len(texts) > 0 {
				_, messages := c.announcement(texts)
				for _, m := range messages {
					commands = append(commands, b.Publish().Channel(c.channel).Message(m).Build())
				}
			}
			var err error
			for _, r := range c.store.tell(ctx, c.store.client, append(commands, b.Exec().Build())) {
				if err == nil {
					err = writeError(r.Error())
				}
			}
			errs <- err
		}()
	}
	var all []error
	for range groups {
		all = append(all, <-errs)
	}
	c.counters.writes.Add(uint64(len(keys)))
	return errors.Join(all...)
}
