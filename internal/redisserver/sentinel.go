package redisserver

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

// MasterSet is the name under which the sentinels of this package know their
// master.
const MasterSet = "flipcache"

// downAfter is when a sentinel takes a silent server for dead: a failover takes
// about a second more.
const downAfter = time.Second

// A Sentinel is a master with replicas and the sentinels that watch them, all on
// free loopback ports. Stop it by Close.
type Sentinel struct {
	Servers   []*Server // the first began as master
	Sentinels []*Server
}

// StartSentinel starts a master with so many replicas, and three sentinels, and
// returns when they know each other, after about 3 s. through, unless it is nil,
// makes a proxy before the master and says where it is: there replicas and
// sentinels find the master, and send clients. args are further arguments of each
// server.
func StartSentinel(replicas int, through func(master string) (at string, err error), args ...string) (*Sentinel, error) {
	s := new(Sentinel)
	if err := s.start(replicas, through, args); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Sentinel) start(replicas int, through func(string) (string, error), args []string) error {
	args = append([]string{"--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"}, args...)
	master, err := Start(args...)
	if err != nil {
		return err
	}
	s.Servers = append(s.Servers, master)
	at := master.Addr
	if through != nil {
		if at, err = through(master.Addr); err != nil {
			return err
		}
	}
	host, port, _ := net.SplitHostPort(at)
	for range replicas {
		r, err := Start(append([]string{"--replicaof", host, port}, args...)...)
		if err != nil {
			return err
		}
		s.Servers = append(s.Servers, r)
	}
	for range 3 {
		one, err := startSentinel(host, port)
		if err != nil {
			return err
		}
		s.Sentinels = append(s.Sentinels, one)
	}
	return until(20*time.Second, "the sentinels know all", func() bool {
		for _, one := range s.Sentinels {
			m, err := one.Do("SENTINEL", "MASTER", MasterSet)
			if err != nil {
				return false
			}
			is, err := m.AsStrMap()
			if err != nil || is["flags"] != "master" || is["num-slaves"] != strconv.Itoa(replicas) || is["num-other-sentinels"] != "2" {
				return false
			}
		}
		for _, r := range s.Servers[1:] {
			if m, err := r.Do("INFO", "replication"); err != nil {
				return false
			} else if info, _ := m.ToString(); !strings.Contains(info, "master_link_status:up") {
				return false
			}
		}
		return true
	})
}

// startSentinel starts one that watches a master: with a file of its own, which it
// keeps up to date.
func startSentinel(host, port string) (*Server, error) {
	bin, err := binary()
	if err != nil {
		return nil, err
	}
	own, err := freePort()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "flipcache-sentinel-")
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "sentinel.conf")
	conf := fmt.Sprintf("port %d\nbind 127.0.0.1\ndir %s\nsentinel monitor %[3]s %[4]s %[5]s 2\n"+
		"sentinel down-after-milliseconds %[3]s %[6]d\nsentinel failover-timeout %[3]s 3000\n",
		own, dir, MasterSet, host, port, downAfter.Milliseconds())
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	return launch(bin, dir, own, []string{file, "--sentinel"})
}

// ClientOption returns what a rueidis client needs to talk to the master of the
// day.
func (s *Sentinel) ClientOption() rueidis.ClientOption {
	var o rueidis.ClientOption
	for _, one := range s.Sentinels {
		o.InitAddress = append(o.InitAddress, one.Addr)
	}
	o.Sentinel.MasterSet = MasterSet
	o.DisableCache = true
	return o
}

// MasterAddr returns where the first sentinel that answers says that the master
// is; "" if none answers.
func (s *Sentinel) MasterAddr() string {
	for _, one := range s.Sentinels {
		m, err := one.Do("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MasterSet)
		if err != nil {
			continue
		}
		if at, err := m.AsStrSlice(); err == nil && len(at) == 2 {
			return net.JoinHostPort(at[0], at[1])
		}
	}
	return ""
}

// Master returns the server whose address MasterAddr is; nil if it is none of
// them.
func (s *Sentinel) Master() *Server {
	at := s.MasterAddr()
	if i := slices.IndexFunc(s.Servers, func(one *Server) bool { return one.Addr == at }); i >= 0 {
		return s.Servers[i]
	}
	return nil
}

// Failover has the sentinels put another server in the master's place, which lives
// on, and returns the new one when all of them say so.
func (s *Sentinel) Failover() (*Server, error) {
	old := s.MasterAddr()
	if _, err := s.Sentinels[0].Do("SENTINEL", "FAILOVER", MasterSet); err != nil {
		return nil, err
	}
	return s.AwaitMaster(func(at string) bool { return at != old })
}

// AwaitMaster waits until all sentinels that run name the same master, one that
// fits, and it says so itself.
func (s *Sentinel) AwaitMaster(fits func(at string) bool) (found *Server, err error) {
	err = until(20*time.Second, "a new master", func() bool {
		for _, one := range s.Sentinels {
			m, err := one.Do("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MasterSet)
			if err != nil {
				continue
			}
			at, err := m.AsStrSlice()
			if err != nil || len(at) != 2 || !fits(net.JoinHostPort(at[0], at[1])) {
				return false
			}
		}
		if found = s.Master(); found == nil {
			return false
		}
		m, err := found.Do("INFO", "replication")
		info, _ := m.ToString()
		return err == nil && strings.Contains(info, "role:master")
	})
	return found, err
}

// AwaitReady waits until one of the servers is master, as it says itself and all
// sentinels, and all others follow it. A master that lives on when another took its
// place follows after 8 s or more.
func (s *Sentinel) AwaitReady() error {
	master, err := s.AwaitMaster(func(string) bool { return true })
	if err != nil {
		return err
	}
	return until(20*time.Second, "all follow the master", func() bool {
		if now := s.Master(); now != master {
			master = now
			return false
		}
		for _, one := range s.Servers {
			m, err := one.Do("INFO", "replication")
			info, _ := m.ToString()
			switch {
			case err != nil:
				return false
			case one == master:
				if !strings.Contains(info, "role:master") {
					return false
				}
			case !strings.Contains(info, "master_link_status:up") || !strings.Contains(info, "master_port:"+strconv.Itoa(master.port)+"\r\n"):
				return false
			}
		}
		return true
	})
}

// Close ends all servers.
func (s *Sentinel) Close() error {
	all := slices.Concat(s.Sentinels, s.Servers)
	errs := make([]error, len(all))
	each(len(all), func(i int) { errs[i] = all[i].Close() })
	return errors.Join(errs...)
}
