package invalidate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/internal/slots"
)

// errMoved: what the tiers hold was read under another table of slots. It is a cut.
var errMoved = errors.New("the slots of the cluster have moved")

// cluster is what Tracking does besides in a Redis Cluster. There a key is read,
// written and told of by the connection to its master. So all connections together
// say of what has changed only as long as each key stays where it was read: Redis
// does not tell of a key that is missing, and is created after its slot has moved;
// nor, before 7.2, of one that is left behind in a slot that was lost. Hence a probe
// asks every master, by that connection, for a write and for its view of the
// cluster; and no probe is answered while any of them sees another table of slots
// than the one under which the session began. Epochs are part of the table, so a
// slot that went and came back is seen, too. Nor while a slot is on its way to a master
// that has none yet, and is not asked: keys are read there, too.
type cluster struct {
	t *tracking

	mu      sync.Mutex         // guards all below
	view    slots.View         // of the session: what all masters said when it began
	masters []master           // of the view
	silent  []string           // addresses of those that did not answer a probe, or when a session began
	deafen  context.CancelFunc // ends what the session's listen began
	ears    context.Context    // that it ends
	eras    []era              // of the tables, the present one last
}

// A master is one that serves slots.
type master struct {
	id   string
	addr string         // by which the client knows it
	tag  string         // a hash tag of one of its slots
	node rueidis.Client // its connection, since the session's beginning
}

// A view is what the node at an address says of the cluster.
type view struct {
	slots.View
	addr string
	err  error
}

// discover begins a session: it finds out who serves which slots, on which all
// masters have to agree.
//
// It is what open needs, but for the questions of acknowledged writes.
func (c *cluster) discover() error {
	ctx, cancel := context.WithTimeout(c.t.s.ctx, c.t.s.cfg.Timeout)
	defer cancel()
	nodes := c.t.client.Nodes()
	views := make(chan view, len(nodes))
	for addr, node := range nodes {
		c.t.s.wg.Go(func() {
			nodes, err := node.Do(ctx, node.B().Arbitrary("CLUSTER", "NODES").Build()).ToString()
			v := view{addr: addr, err: err}
			if err == nil {
				v.View, v.err = slots.ParseNodes(nodes)
			}
			views <- v
		})
	}
	said := make(map[string]view) // by masters, of themselves
	failed := errors.New("no node was found")
	for range nodes {
		v := <-views
		switch {
		case v.err != nil:
			c.noteSilent(v.addr, v.err)
			failed = fmt.Errorf("CLUSTER NODES at %s: %w", v.addr, v.err)
		case v.Me != "":
			said[v.Me] = v
		}
		if masters := agreed(v, said); masters != nil {
			for i := range masters {
				masters[i].node = nodes[masters[i].addr]
			}
			c.begin(v.View, masters)
			return nil
		}
	}
	for _, v := range said {
		for id, tag := range v.Masters {
			if there, ok := said[id]; !ok {
				// The client may not know this node yet. To ask for a key of its is
				// to be sent there.
				c.t.client.Do(ctx, c.t.client.B().Exists().Key(processPrefix+"{"+tag+"}").Build())
				return fmt.Errorf("the master %s of the cluster did not answer: %w", id, failed)
			} else if there.Table != v.Table {
				failed = fmt.Errorf("the masters %s and %s of the cluster do not agree on its slots", v.addr, there.addr)
			} else if there.ToUnknown() {
				failed = fmt.Errorf("the master %s of the cluster hands slots to one that has none yet", there.addr)
			}
		}
	}
	return failed
}

// agreed returns the masters of v if all of them said the same, and hand slots to
// none but each other, else nil.
func agreed(v view, said map[string]view) (masters []master) {
	for id, tag := range v.Masters {
		own, ok := said[id]
		if !ok || own.Table != v.Table {
			return nil
		}
		if own.ToUnknown() {
			return nil
		}
		masters = append(masters, master{id: id, addr: own.addr, tag: tag})
	}
	return masters
}

// begin takes the table for that of the session.
func (c *cluster) begin(v slots.View, masters []master) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range masters {
		if c.view.Table != "" && !slices.ContainsFunc(c.masters, func(old master) bool { return old.id == m.id }) {
			c.t.closeConn(m.addr) // it may have been made to a replica: one to a master is made now
		}
	}
	if c.deafen != nil {
		c.deafen()
	}
	c.ears, c.deafen = context.WithCancel(c.t.s.ctx)
	c.enter(v)
	c.view, c.masters, c.silent = v, masters, nil
}

// probe has every master write, and say how it sees the cluster.
func (c *cluster) probe() error {
	ctx, cancel := context.WithTimeout(c.t.s.ctx, c.t.s.cfg.Timeout)
	defer cancel()
	c.mu.Lock()
	table, masters := c.view.Table, c.masters
	c.mu.Unlock()
	if _, err := c.t.s.register("", ""); err != nil {
		return err
	}
	nodes := c.t.client.Nodes()
	errs := make([]error, len(masters))
	var wg sync.WaitGroup
	// Model: clusterack, a probe asks the master of the key only
	for i, m := range masters {
		node := nodes[m.addr]
		if node == nil {
			return fmt.Errorf("%w: %s has left", errMoved, m.addr)
		}
		wg.Go(func() {
			if errs[i] = c.ask(ctx, node, m, table); errs[i] == nil {
				return
			}
			c.noteSilent(m.addr, errs[i])
			errs[i] = fmt.Errorf("%s: %w", m.addr, errs[i])
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// ask asks one master, in whose view the cluster must be as table says.
func (c *cluster) ask(ctx context.Context, node rueidis.Client, m master, table string) error {
	replies := node.DoMulti(ctx, c.writeAt(m, node), node.B().Arbitrary("CLUSTER", "NODES").Build())
	if err := replies[0].Error(); err != nil && !c.t.s.forgives(err) {
		return err
	}
	nodes, err := replies[1].ToString()
	if err != nil {
		return fmt.Errorf("CLUSTER NODES: %w", err)
	}
	v, err := slots.ParseNodes(nodes)
	// Model: clusterack, a probe compares no tables
	// Model: clusterack, a probe is answered while a slot goes to a new master
	if err == nil && (v.Me != m.id || v.Table != table || v.ToUnknown()) {
		err = errMoved
	}
	return err
}

// writeAt is a write that m does as long as it may do others.
func (c *cluster) writeAt(m master, node rueidis.Client) rueidis.Completed {
	key := fmt.Sprintf("%s{%s}%v", processPrefix, m.tag, c.t.s.sender)
	return node.B().Set().Key(key).Value(c.t.s.member()).Px(membership).Build()
}

// noteSilent notes that who is at addr was asked in vain, if that is what err says.
func (c *cluster) noteSilent(addr string, err error) {
	if errors.Is(err, context.DeadlineExceeded) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.silent = append(c.silent, addr)
	}
}

// hangUp closes the connections to those that were silent: others go on.
func (c *cluster) hangUp() {
	c.mu.Lock()
	silent := c.silent
	c.silent = nil
	c.mu.Unlock()
	for _, addr := range silent {
		c.t.closeConn(addr)
	}
}

// registerEach is register where each cache's list is in a slot of its own.
func (s *Stream) registerEach(ctx context.Context, client rueidis.Client, lists []string) ([]bool, error) {
	added, errs := make([]bool, len(lists)), make([]error, len(lists))
	var wg sync.WaitGroup
	for i, list := range lists {
		wg.Go(func() {
			var one []bool
			one, errs[i] = s.registerAs(ctx, client, []string{slots.Beside(fmt.Sprintf("%s%v:", processPrefix, s.sender), list), list}, "", "")
			added[i] = len(one) > 0 && one[0]
		})
	}
	wg.Wait()
	return added, errors.Join(errs...)
}
