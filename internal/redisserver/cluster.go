package redisserver

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/internal/slots"
)

// A Cluster is a Redis Cluster of real servers on free loopback ports. Stop it by
// Close.
type Cluster struct {
	// Nodes are all its servers, those that began as masters first. Their roles
	// change with failovers: ask Owner and Replicas.
	Nodes []*Server
	ids   map[*Server]string
}

// nodeTimeout is cluster-node-timeout: a failover of a dead master takes about
// twice as long.
const nodeTimeout = time.Second

// StartCluster starts a cluster of masters, each with so many replicas, and
// returns when all slots are served and all replicas follow: after about 3 s. args
// are further arguments of each server.
func StartCluster(masters, replicas int, args ...string) (*Cluster, error) {
	var err error
	for range 3 { // another process may take a port meanwhile, or a dead cluster's nodes call there
		c := &Cluster{ids: make(map[*Server]string)}
		if err = c.start(masters, replicas, args); err == nil {
			return c, nil
		}
		c.Close()
		if errors.Is(err, ErrNotInstalled) {
			break
		}
	}
	return nil, err
}

func (c *Cluster) start(masters, replicas int, args []string) error {
	c.Nodes = make([]*Server, masters*(1+replicas))
	errs := make([]error, len(c.Nodes))
	each(len(c.Nodes), func(i int) { c.Nodes[i], errs[i] = startNode(args) })
	c.Nodes = slices.DeleteFunc(c.Nodes, func(s *Server) bool { return s == nil })
	if err := errors.Join(errs...); err != nil {
		if errors.Is(err, ErrNotInstalled) {
			return ErrNotInstalled
		}
		return err
	}
	for i, s := range c.Nodes {
		if err := c.learnID(s); err != nil {
			return err
		}
		if _, err := s.Do("CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1)); err != nil {
			return err
		}
		if i < masters {
			from, to := i*slots.Count/masters, (i+1)*slots.Count/masters-1
			if err := s.AddSlots(from, to); err != nil {
				return err
			}
		}
	}
	// Each meets each, which is faster than to wait for gossip.
	for i, s := range c.Nodes {
		for _, other := range c.Nodes[i+1:] {
			if err := meet(s, other); err != nil {
				return err
			}
		}
	}
	if err := c.agree(func(lines []string) bool {
		return len(lines) == len(c.Nodes) && !slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, "handshake") })
	}, "the nodes know each other"); err != nil {
		return err
	}
	for i, s := range c.Nodes[masters:] {
		if _, err := s.Do("CLUSTER", "REPLICATE", c.ids[c.Nodes[i%masters]]); err != nil {
			return err
		}
	}
	return c.AwaitReady()
}

// AddSlots gives s the slots from one number to another, which nobody has.
func (s *Server) AddSlots(from, to int) error {
	command := []string{"CLUSTER", "ADDSLOTS"} // ADDSLOTSRANGE is of Redis 7
	for slot := from; slot <= to; slot++ {
		command = append(command, strconv.Itoa(slot))
	}
	_, err := s.Do(command...)
	return err
}

// ports returns the arguments for free ports, of a node for its clients and for
// other nodes.
func ports() ([]string, error) {
	for Major() < 7 { // the latter is the former and 10000
		port, err := freePort()
		if err != nil {
			return nil, err
		}
		if l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port+busOffset))); err == nil {
			l.Close()
			return []string{"--port", strconv.Itoa(port)}, nil
		}
	}
	bus, err := freePort()
	return []string{"--cluster-port", strconv.Itoa(bus)}, err
}

const busOffset = 10000

func startNode(args []string) (*Server, error) {
	ports, err := ports()
	if err != nil {
		return nil, err
	}
	return Start(append(append(ports,
		"--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf",
		"--cluster-node-timeout", strconv.FormatInt(nodeTimeout.Milliseconds(), 10), "--cluster-replica-validity-factor", "0",
		"--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0",
	), args...)...)
}

// each runs f for 0 to n-1 at once.
func each(n int, f func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}

func (c *Cluster) learnID(s *Server) error {
	m, err := s.Do("CLUSTER", "MYID")
	if err != nil {
		return err
	}
	c.ids[s], err = m.ToString()
	return err
}

// bus returns the port on which s speaks with other nodes.
func (s *Server) bus() (string, error) {
	m, err := s.Do("CONFIG", "GET", "cluster-port")
	if err != nil {
		return "", err
	}
	conf, err := m.AsStrMap()
	return cmp.Or(conf["cluster-port"], strconv.Itoa(s.port+busOffset)), err
}

func meet(s, other *Server) error {
	bus, err := other.bus()
	if err != nil {
		return err
	}
	_, err = s.Do("CLUSTER", "MEET", "127.0.0.1", strconv.Itoa(other.port), bus)
	return err
}

// view returns what s says of the nodes, a line each.
func (s *Server) view() ([]string, error) {
	m, err := s.Do("CLUSTER", "NODES")
	if err != nil {
		return nil, err
	}
	text, err := m.ToString()
	text = strings.TrimPrefix(text, "txt:") // RESP3 says what kind of string it is
	return strings.Split(strings.TrimSpace(text), "\n"), err
}

// agree waits until each node that runs has a view that fits.
func (c *Cluster) agree(fits func(lines []string) bool, what string) error {
	return until(20*time.Second, what, func() bool {
		for _, s := range c.running() {
			if lines, err := s.view(); err != nil || !fits(lines) {
				return false
			}
		}
		return true
	})
}

func (c *Cluster) running() (all []*Server) {
	for _, s := range c.Nodes {
		if s.Running() {
			all = append(all, s)
		}
	}
	return all
}

// AwaitReady waits until all nodes that run agree on who serves which slots, say that
// all are served, and all replicas that run follow their masters.
func (c *Cluster) AwaitReady() error {
	var why error
	err := until(20*time.Second, "the cluster serves all slots", func() bool {
		why = c.ready()
		return why == nil
	})
	if err != nil {
		return fmt.Errorf("%w: %w", err, why)
	}
	return nil
}

// ready says why AwaitReady has to wait.
func (c *Cluster) ready() error {
	var first string
	for i, s := range c.running() {
		lines, err := s.view()
		if err != nil {
			return err
		}
		text := strings.Join(lines, "\n")
		v, err := slots.ParseNodes(text)
		if err != nil {
			return err
		}
		if i == 0 {
			first = v.Table
		}
		if v.Table != first {
			return fmt.Errorf("by one the slots are\n%s\nby %s\n%s", first, s.Addr, text)
		}
		m, err := s.Do("CLUSTER", "INFO")
		if err != nil {
			return err
		}
		info, _ := m.ToString()
		if !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, "cluster_slots_ok:16384") {
			return fmt.Errorf("%s says: %s", s.Addr, info)
		}
		if m, err = s.Do("INFO", "replication"); err != nil {
			return err
		}
		if info, _ = m.ToString(); strings.Contains(info, "role:slave") && !strings.Contains(info, "master_link_status:up") {
			return fmt.Errorf("%s does not follow its master", s.Addr)
		}
	}
	return nil
}

// ClientOption returns what a rueidis client needs to talk to the cluster.
func (c *Cluster) ClientOption() rueidis.ClientOption {
	var o rueidis.ClientOption
	for _, s := range c.running() {
		o.InitAddress = append(o.InitAddress, s.Addr)
	}
	o.DisableCache = true
	return o
}

// Owner returns the master that serves slot, as it says itself; nil if none does.
func (c *Cluster) Owner(slot uint16) *Server {
	for _, s := range c.running() {
		lines, err := s.view()
		if err != nil {
			continue
		}
		for _, l := range lines {
			if f := strings.Fields(l); strings.Contains(f[2], "myself,master") && holds(f[8:], int(slot)) {
				return s
			}
		}
	}
	return nil
}

// holds says whether slot is in the ranges of a line of CLUSTER NODES.
func holds(ranges []string, slot int) bool {
	for _, r := range ranges {
		from, to, isRange := strings.Cut(r, "-")
		first, err := strconv.Atoi(from)
		last := first
		if isRange && err == nil {
			last, err = strconv.Atoi(to)
		}
		if err == nil && first <= slot && slot <= last { // else a slot that moves, in brackets
			return true
		}
	}
	return false
}

// Replicas returns those that follow s.
func (c *Cluster) Replicas(s *Server) (all []*Server) {
	lines, err := s.view()
	if err != nil {
		return nil
	}
	for _, l := range lines {
		f := strings.Fields(l)
		for _, other := range c.running() {
			if c.ids[other] == f[0] && f[3] == c.ids[s] {
				all = append(all, other)
			}
		}
	}
	return all
}

// Failover has a replica of master take over, with its consent, and returns the
// replica when it has, and the old master follows it. Do not have the two change
// places again within 4 s: a replica then counts the votes of before (Redis 7.0).
func (c *Cluster) Failover(master *Server) (*Server, error) {
	replicas := c.Replicas(master)
	if len(replicas) == 0 {
		return nil, fmt.Errorf("redisserver: %s has no replica", master.Addr)
	}
	if _, err := replicas[0].Do("CLUSTER", "FAILOVER"); err != nil {
		return nil, err
	}
	if err := c.AwaitMaster(replicas[0]); err != nil {
		return nil, err
	}
	return replicas[0], until(20*time.Second, master.Addr+" follows", func() bool { return slices.Contains(c.Replicas(replicas[0]), master) })
}

// AwaitMaster waits until s is a master that serves slots, as it says itself.
func (c *Cluster) AwaitMaster(s *Server) error {
	return until(20*time.Second, s.Addr+" is master", func() bool {
		lines, err := s.view()
		return err == nil && slices.ContainsFunc(lines, func(l string) bool {
			f := strings.Fields(l)
			return strings.Contains(f[2], "myself,master") && len(f) > 8
		})
	})
}

// AddMaster adds a node without slots, and returns when all others know it.
func (c *Cluster) AddMaster(args ...string) (*Server, error) {
	s, err := startNode(args)
	if err != nil {
		return nil, err
	}
	old := c.running()
	c.Nodes = append(c.Nodes, s)
	if err := c.learnID(s); err != nil {
		return nil, err
	}
	for _, other := range old {
		if err := meet(s, other); err != nil {
			return nil, err
		}
	}
	err = c.agree(func(lines []string) bool {
		return slices.ContainsFunc(lines, func(l string) bool {
			return strings.HasPrefix(l, c.ids[s]) && !strings.Contains(l, "handshake")
		})
	}, "all nodes know "+s.Addr)
	if err != nil {
		return nil, err
	}
	return s, c.AwaitReady()
}

// MoveSlot moves a slot and its keys to another master while the cluster serves,
// as redis-cli does it. Wait for AwaitReady before a slot moves to yet another one: a
// master that has not heard of the newest epoch takes a slot with an older one, which
// is then taken back from it (Redis 7.0).
func (c *Cluster) MoveSlot(slot uint16, to *Server) error {
	from := c.Owner(slot)
	if err := c.BeginMove(slot, to); err != nil {
		return err
	}
	n := strconv.Itoa(int(slot))
	for {
		m, err := from.Do("CLUSTER", "GETKEYSINSLOT", n, "100")
		if err != nil {
			return err
		}
		keys, err := m.AsStrSlice()
		if err != nil {
			return err
		}
		if len(keys) == 0 {
			break
		}
		// REPLACE: what was sent before, and not removed here as the connection was lost.
		if _, err := from.Do(append([]string{"MIGRATE", "127.0.0.1", strconv.Itoa(to.port), "", "0", "5000", "REPLACE", "KEYS"}, keys...)...); err != nil {
			return err
		}
	}
	return c.AssignSlot(slot, to)
}

// BeginMove has a slot's keys be created at another master, which they have yet to be
// moved to.
func (c *Cluster) BeginMove(slot uint16, to *Server) error {
	from := c.Owner(slot)
	if from == nil || from == to {
		return fmt.Errorf("redisserver: slot %d cannot move to %s", slot, to.Addr)
	}
	n := strconv.Itoa(int(slot))
	if _, err := to.Do("CLUSTER", "SETSLOT", n, "IMPORTING", c.ids[from]); err != nil {
		return err
	}
	_, err := from.Do("CLUSTER", "SETSLOT", n, "MIGRATING", c.ids[to])
	return err
}

// AssignSlot tells all masters that slot is to's. One who is not told may have it
// taken back from to, by an epoch that is newer: so a connection that is lost is no
// reason to leave one out.
func (c *Cluster) AssignSlot(slot uint16, to *Server) error {
	for _, s := range append([]*Server{to}, c.running()...) { // the new owner first
		if err := s.insist("CLUSTER", "SETSLOT", strconv.Itoa(int(slot)), "NODE", c.ids[to]); err != nil &&
			!strings.Contains(err.Error(), "only with masters") {
			return err
		}
	}
	return nil
}

// insist runs a command that may run twice, until it is answered.
func (s *Server) insist(command ...string) error {
	var err error
	for range 10 {
		_, err = s.Do(command...)
		if re := (*rueidis.RedisError)(nil); err == nil || errors.As(err, &re) {
			return err
		}
		time.Sleep(time.Millisecond)
	}
	return err
}

// Close ends all servers.
func (c *Cluster) Close() error {
	each(len(c.Nodes), func(i int) { c.Nodes[i].Close() })
	return nil
}
