package invalidate

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/internal/slots"
)

// In a cluster a key is told of by the connection to its master, and a question says
// something of a write only to who hears it there. So each process listens on each
// master's connection to channels of that master alone, and of the table of slots
// under which its session goes on: whoever answers has read keys under the very table
// that the writer has, and has heard that master out. The writer asks the master that
// serves its key by that table, and has it say in the same breath that this is how it
// sees the cluster, and that the slot is not on the move; and it has it write, as one that
// was cut off from the cluster and deposed does not know that, but takes no writes by
// then. Else the write may have been carried out elsewhere: then no answer counts, and
// all are waited for until their leases are over.
//
// Who listens stands in one list a cache, which lies on some master. A failover of that
// master can bring back an old one; see listed.

// homeOf names a master under a table of slots in channels.
//
// Model: clusterack, the channel does not name the master
// Model: clusterack, the channel does not name the table
func homeOf(table, id string) string {
	h := sha256.Sum256([]byte(table + "\n" + id))
	return hex.EncodeToString(h[:8])
}

// askChannel is where those in Tracking are asked who listen to the cache name; home is
// empty but in a cluster.
func askChannel(home, name string) string {
	if home == "" {
		return askPrefix + name
	}
	return askPrefix + home + ":" + name
}

// answerChannel is where a process hears answers.
func answerChannel(home string, to Sender) string {
	if home == "" {
		return selfChannel(to)
	}
	return selfChannel(to) + ":" + home
}

// inCluster returns what a cluster adds to Tracking, or nil.
func (s *Stream) inCluster() *cluster {
	if t, ok := s.ear.(*tracking); ok {
		return t.cluster
	}
	return nil
}

// names returns the caches that are listened for.
func (s *Stream) names() (all []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.topics {
		all = append(all, name)
	}
	return all
}

// An era is how long a table of slots was that of this process.
type era struct {
	slots.View
	until int64 // when the next one began; the present one's is not set
}

// enter begins the era of v.
//
// REQUIRES: c.mu held.
func (c *cluster) enter(v slots.View) {
	if n := len(c.eras); n > 0 {
		c.eras[n-1].until = c.t.s.cfg.now()
	}
	c.eras = slices.DeleteFunc(c.eras, func(e era) bool { return !c.t.s.isYoung(e.until) })
	c.eras = append(c.eras, era{View: v})
}

// settled says whether slot has had the same master for as long as any lease, as far
// as this process knows.
//
// REQUIRES: c.mu held.
func (c *cluster) settled(slot uint16) bool {
	for _, e := range c.eras[:max(0, len(c.eras)-1)] {
		if c.t.s.isYoung(e.until) && e.Owner(slot) != c.view.Owner(slot) {
			return false
		}
	}
	return true
}

// open begins a session, in which questions are heard of every master.
func (c *cluster) open() error {
	c.mu.Lock()
	table, masters := c.view.Table, c.masters
	c.mu.Unlock()
	if err := c.discover(); err != nil {
		return err
	}
	if c.t.s.lease.max == 0 {
		return nil
	}
	c.mu.Lock()
	same := c.view.Table == table
	c.mu.Unlock()
	if !same {
		c.unlisten(table, masters)
	}
	return c.listenTo(true, c.t.s.names()...)
}

// unlisten ends what was listened to under a table of before, by the connections that
// are still there. What fails costs their masters a few bytes.
func (c *cluster) unlisten(table string, masters []master) {
	for _, m := range masters {
		if c.t.connTo(m.addr) == nil {
			continue
		}
		home := homeOf(table, m.id)
		channels := []string{answerChannel(home, c.t.s.sender)}
		for _, name := range c.t.s.names() {
			channels = append(channels, askChannel(home, name))
		}
		c.t.s.wg.Go(func() {
			ctx, cancel := context.WithTimeout(c.t.s.ctx, c.t.s.cfg.Timeout)
			defer cancel()
			m.node.Do(ctx, m.node.B().Unsubscribe().Channel(channels...).Build())
		})
	}
}

// listen has every master's connection hear the questions to the cache name.
func (c *cluster) listen(name string) error { return c.listenTo(false, name) }

func (c *cluster) listenTo(self bool, names ...string) error {
	c.mu.Lock()
	ctx, table, masters := c.ears, c.view.Table, c.masters
	c.mu.Unlock()
	errs := make([]error, len(masters))
	var wg sync.WaitGroup
	for i, m := range masters {
		wg.Go(func() { errs[i] = c.t.listen(ctx, m.node, homeOf(table, m.id), self, names...) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// places are the masters that a writer asks.
type places struct {
	c     *cluster
	name  string
	table string
	slots []uint16 // that were written; none: any may have been
	ask   []master // those that serve them
	list  master   // the one that has the list of who listens; without node: not known
	slot  uint16   // of the list
	floor bool     // its slot changed hands not long ago
	lost  bool     // not all are known who should be asked
}

// placesOf returns whom to ask after writes of these slots; none: of any.
func (c *cluster) placesOf(name string, written []uint16) *places {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := &places{c: c, name: name, table: c.view.Table, slots: written, slot: slots.Of(membersPrefix + name)}
	byID := func(id string) (master, bool) {
		i := slices.IndexFunc(c.masters, func(m master) bool { return m.id == id })
		if i < 0 {
			return master{}, false
		}
		return c.masters[i], true
	}
	p.list, _ = byID(c.view.Owner(p.slot))
	p.floor = !c.settled(p.slot)
	if len(written) == 0 {
		p.ask = slices.Clone(c.masters)
		p.lost = len(p.ask) == 0
		return p
	}
	for _, slot := range written {
		m, ok := byID(c.view.Owner(slot)) // Model: clusterack, another master than the key's is asked
		if !ok {
			p.lost = true
		} else if !slices.ContainsFunc(p.ask, func(other master) bool { return other.id == m.id }) {
			p.ask = append(p.ask, m)
		}
	}
	return p
}

// askAll asks q, and returns who listens, and whether there may be more. It voids q if
// its answers do not count.
func (p *places) askAll(ctx context.Context, q *question) (members []Member, floor bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, p.c.t.s.cfg.Timeout)
	defer cancel()
	q.void = p.lost
	var mu sync.Mutex // guards q.void
	var wg sync.WaitGroup
	listed := false
	for i, m := range p.ask {
		ask := func() {
			b := m.node.B()
			message := rueidis.BinaryString(appendHeader(nil, kindAsk, p.c.t.s.sender, q.ids[i]))
			commands := []rueidis.Completed{
				b.Publish().Channel(askChannel(homeOf(p.table, m.id), p.name)).Message(message).Build(),
				p.c.writeAt(m, m.node),
				b.Arbitrary("CLUSTER", "NODES").Build(),
			}
			here := m.id == p.list.id
			if here {
				commands = append(commands, p.listing()...)
			}
			replies := m.node.DoMulti(ctx, commands...)
			v := viewOf(m, replies[2])
			// Model: clusterack, the asked master's table is not compared
			// Model: clusterack, the asked master needs not write
			// Model: clusterack, answers count while the slot is on its way
			if v.Table != p.table || replies[0].Error() != nil || replies[1].Error() != nil || slices.ContainsFunc(v.Leaving, p.wrote) {
				mu.Lock()
				q.void = true
				mu.Unlock()
			}
			if here {
				members, floor, err = p.listed(ctx, v, replies[3:])
			}
		}
		listed = listed || m.id == p.list.id
		if i == len(p.ask)-1 && listed {
			ask()
		} else {
			wg.Go(ask)
		}
	}
	if !listed {
		var replies []rueidis.RedisResult
		var v slots.View
		if p.list.node != nil {
			replies = p.list.node.DoMulti(ctx, append([]rueidis.Completed{p.list.node.B().Arbitrary("CLUSTER", "NODES").Build()}, p.listing()...)...)
			v = viewOf(p.list, replies[0])
			replies = replies[1:]
		}
		members, floor, err = p.listed(ctx, v, replies)
	}
	wg.Wait()
	return members, floor, err
}

// wrote says whether the slot of m may have been written.
func (p *places) wrote(m slots.Move) bool {
	return len(p.slots) == 0 || slices.Contains(p.slots, m.Slot)
}

// viewOf reads what m says of the cluster; nothing, if it is no master.
func viewOf(m master, reply rueidis.RedisResult) slots.View {
	if nodes, err := reply.ToString(); err == nil {
		if v, err := slots.ParseNodes(nodes); err == nil && v.Me == m.id {
			return v
		}
	}
	return slots.View{}
}

// listing are the commands by which the list's master is asked for it. Where the
// connection is young, it could be of a server that was promoted or restarted since
// others have a lease: it has to say that it was not.
func (p *places) listing() []rueidis.Completed {
	commands := listMembers(p.list.node, p.name)
	if p.young() {
		commands = append(commands, p.list.node.B().Info().Build())
	}
	return commands
}

// young says whether the connection to the list's master is.
func (p *places) young() bool {
	conn := p.c.t.connTo(p.list.addr)
	return conn == nil || p.c.t.s.isYoung(conn.dialed)
}

// listed returns who listens by the replies to listing, and whether there may be more
// than those, who have a lease and whom the list has lost: where its master may have
// taken a dead one's place since a lease was granted that still runs. That is where the
// slot of the list has changed hands, or does, and where the connection is young and its
// server, too. v is how the master sees the cluster.
func (p *places) listed(ctx context.Context, v slots.View, replies []rueidis.RedisResult) (members []Member, floor bool, err error) {
	if v.Me != "" && v.Me == v.Owner(p.slot) && len(replies) >= 2 {
		if floor = p.floor || len(replies) == 2 && p.young(); len(replies) > 2 {
			floor = floor || !lacksNobody(replies[2])
		}
		if members, err = parseMembers(replies[0], replies[1]); err == nil {
			return members, floor, nil
		}
	}
	// The client finds out where the list is now.
	for pause := 5 * time.Millisecond; ; pause *= 2 {
		replies := p.c.t.client.DoMulti(ctx, listMembers(p.c.t.client, p.name)...)
		if members, err = parseMembers(replies[0], replies[1]); err == nil {
			return members, true, nil
		}
		select {
		case <-ctx.Done():
			return nil, false, fmt.Errorf("who listens is not known: %w", err)
		case <-time.After(pause):
		}
	}
}
