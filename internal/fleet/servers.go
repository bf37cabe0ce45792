//go:build unix

package fleet

import (
	"net"
	"strings"

	"github.com/flipcache/flipcache/internal/redisserver"
	"github.com/flipcache/flipcache/internal/slots"
)

// several is a Redis of several servers, as those see it who run it.
type several interface {
	// data are the servers that hold keys.
	data() []*redisserver.Server
	// all are those to which workers speak.
	all() []*redisserver.Server
	// masters are those of data that serve keys; several for one part of them
	// only while roles change.
	masters() []*redisserver.Server
	// failover has a replica of master asked to take its place. It returns when
	// that is asked for.
	failover(master *redisserver.Server) error
	// restart runs one again that was killed, as a supervisor does.
	restart(s *redisserver.Server) error
	// awaitReady waits until all that run have their role and know those of the
	// others.
	awaitReady() error
	// role asks s for its own.
	role(s *redisserver.Server) (role, error)
}

// A role is what a server says of itself.
type role struct {
	master bool
	// view is, in a cluster, how s sees it.
	view slots.View
}

// several returns r's servers; nil if it is one.
func (r Redis) several() several {
	switch {
	case r.Cluster != nil:
		return clustered{r.Cluster}
	case r.Sentinel != nil:
		return watched{r.Sentinel}
	}
	return nil
}

// clustered is a Redis Cluster.
type clustered struct{ c *redisserver.Cluster }

func (s clustered) data() []*redisserver.Server         { return s.c.Nodes }
func (s clustered) all() []*redisserver.Server          { return s.c.Nodes }
func (s clustered) awaitReady() error                   { return s.c.AwaitReady() }
func (s clustered) restart(n *redisserver.Server) error { return n.Restart() }
func (s clustered) masters() []*redisserver.Server      { return thoseWho(s, s.c.Nodes) }

func (s clustered) failover(master *redisserver.Server) error {
	for _, r := range s.c.Replicas(master) {
		_, err := r.Do("CLUSTER", "FAILOVER")
		return err
	}
	return nil
}

func (s clustered) role(n *redisserver.Server) (r role, err error) {
	m, err := n.Do("CLUSTER", "NODES")
	if err != nil {
		return r, err
	}
	text, err := m.ToString()
	if err != nil {
		return r, err
	}
	r.view, err = slots.ParseNodes(text)
	_, r.master = r.view.Masters[r.view.Me]
	return r, err
}

// watched is a master with its replicas and the sentinels that watch them.
type watched struct{ s *redisserver.Sentinel }

func (s watched) data() []*redisserver.Server { return s.s.Servers }
func (s watched) all() []*redisserver.Server {
	return append(s.s.Servers[:len(s.s.Servers):len(s.s.Servers)], s.s.Sentinels...)
}
func (s watched) awaitReady() error              { return s.s.AwaitReady() }
func (s watched) masters() []*redisserver.Server { return thoseWho(s, s.s.Servers) }

func (s watched) failover(*redisserver.Server) error {
	_, err := s.s.Sentinels[0].Do("SENTINEL", "FAILOVER", redisserver.MasterSet)
	return err
}

// restart asks the sentinels who is master, and has it follow that one: else it would
// be a second one for 8 s or more, with what it had when it died.
func (s watched) restart(one *redisserver.Server) error {
	of := "no one"
	if at := s.s.MasterAddr(); at != "" && at != one.Addr {
		host, port, _ := net.SplitHostPort(at)
		of = host + " " + port
	}
	return one.Restart("--replicaof", of)
}

func (s watched) role(one *redisserver.Server) (r role, err error) {
	m, err := one.Do("INFO", "replication")
	if err != nil {
		return r, err
	}
	info, err := m.ToString()
	r.master = strings.Contains(info, "role:master")
	return r, err
}

// thoseWho returns those who say that they are masters. Who is stopped says nothing for
// long: not to be called then.
func thoseWho(s several, all []*redisserver.Server) (masters []*redisserver.Server) {
	for _, one := range all {
		if !one.Running() {
			continue
		}
		if r, err := s.role(one); err == nil && r.master {
			masters = append(masters, one)
		}
	}
	return masters
}
