// Package redisserver starts the servers that tests, examples and benchmarks
// run against: a real redis-server on a free loopback port where one is
// installed, or miniredis inside the process. It is not part of the library
// that users import.
package redisserver

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/rueidis"
)

// ErrNotInstalled is returned by Start where no redis-server is on PATH.
var ErrNotInstalled = errors.New("redisserver: no redis-server on PATH")

// binary returns the server to run: redis-server on PATH, or what the environment
// says, a name or a path: valkey-server, a redis-server of another version.
func binary() (path string, err error) {
	path, err = exec.LookPath(cmp.Or(os.Getenv("FLIPCACHE_REDIS_SERVER"), "redis-server"))
	if err != nil {
		return "", fmt.Errorf("%w (%w)", ErrNotInstalled, err)
	}
	return path, nil
}

// A Server is a running Redis. Stop it by Close.
type Server struct {
	// Addr is host:port, on loopback.
	Addr string
	// Kind names the program and its version, for reports.
	Kind string

	port     int
	dir      string
	bin      string
	args     []string
	embedded *miniredis.Miniredis

	mu      sync.Mutex // guards process
	process *process   // the newest; nil for an embedded one

	stop  chan struct{}
	wg    sync.WaitGroup
	once  sync.Once
	admin admin
}

// A process is one run of a server.
type process struct {
	cmd    *exec.Cmd
	log    bytes.Buffer
	exited chan struct{}
}

// Available says whether Start would find a redis-server.
func Available() bool {
	_, err := binary()
	return err == nil
}

// Start runs a redis-server without persistence on a free loopback port (or that of
// --port), with
// further command-line arguments, and returns when it answers PING. It fails
// with ErrNotInstalled where there is none on PATH.
func Start(args ...string) (*Server, error) {
	var err error
	for range 5 { // another process may take the port between its choice and the server's bind
		var s *Server
		if s, err = start(args); err == nil || errors.Is(err, ErrNotInstalled) {
			return s, err
		}
	}
	return nil, err
}

func start(args []string) (*Server, error) {
	bin, err := binary()
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if i := slices.Index(args, "--port"); i >= 0 && i+1 < len(args) {
		port, err = strconv.Atoi(args[i+1])
	}
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "flipcache-redis-")
	if err != nil {
		return nil, err
	}
	return launch(bin, dir, port, append([]string{
		"--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--dir", dir,
		"--save", "", "--appendonly", "no", "--daemonize", "no",
	}, args...))
}

// launch runs a server that listens on port and keeps what it has in dir, which
// ends with it.
func launch(bin, dir string, port int, args []string) (*Server, error) {
	s := &Server{Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), port: port, dir: dir, bin: bin, args: args}
	if err := s.run(args); err != nil {
		s.Close()
		return nil, err
	}
	s.Kind = version(bin)
	return s, nil
}

// run starts a process of the server and returns when it answers.
func (s *Server) run(args []string) error {
	p := &process{cmd: exec.Command(s.bin, args...), exited: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	p.cmd.SysProcAttr = ofItsOwn()
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("redisserver: start %s: %w", s.bin, err)
	}
	go func() {
		p.cmd.Wait()
		close(p.exited)
	}()
	s.mu.Lock()
	s.process = p
	s.mu.Unlock()
	return s.waitReady(p, 10*time.Second)
}

// newest returns the newest process of the server; nil for an embedded one.
func (s *Server) newest() *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process
}

// Running says whether the server's process is there, stopped or not.
func (s *Server) Running() bool {
	p := s.newest()
	if p == nil {
		return s.embedded != nil
	}
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// Restart runs a server that was killed again, as a supervisor would: at the same
// address, with the same arguments and with what it has on disk. args are further
// ones, which outdo those of before, for this time. It returns when the server
// answers.
func (s *Server) Restart(args ...string) error {
	if s.Running() {
		return fmt.Errorf("redisserver: %s runs", s.Addr)
	}
	return s.run(slices.Concat(s.args, args))
}

// StartEmbedded runs miniredis in this process, with a ticker that lets its
// TTLs pass as time does.
func StartEmbedded() (*Server, error) {
	m := miniredis.NewMiniRedis()
	if err := m.StartAddr("127.0.0.1:0"); err != nil {
		return nil, fmt.Errorf("redisserver: start miniredis: %w", err)
	}
	s := &Server{Addr: m.Addr(), Kind: "miniredis (embedded)", embedded: m, stop: make(chan struct{})}
	s.wg.Go(func() {
		const tick = 100 * time.Millisecond
		t := time.NewTicker(tick)
		defer t.Stop()
		last := time.Now()
		for {
			select {
			case now := <-t.C:
				m.FastForward(now.Sub(last))
				last = now
			case <-s.stop:
				return
			}
		}
	})
	return s, nil
}

// Any starts a redis-server where one is installed, else miniredis.
func Any() (*Server, error) {
	s, err := Start()
	if errors.Is(err, ErrNotInstalled) {
		return StartEmbedded()
	}
	return s, err
}

// ClientOption returns what a rueidis client needs to talk to the server.
func (s *Server) ClientOption() rueidis.ClientOption {
	return rueidis.ClientOption{
		InitAddress:       []string{s.Addr},
		ForceSingleClient: true, // miniredis answers CLUSTER commands, too
		DisableCache:      true, // and knows no CLIENT TRACKING
	}
}

// Embedded returns the miniredis behind the server, nil for a real one.
func (s *Server) Embedded() *miniredis.Miniredis { return s.embedded }

// Pid returns the server's process id, 0 for an embedded one.
func (s *Server) Pid() int {
	p := s.newest()
	if p == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// Signal sends sig to the server's process.
func (s *Server) Signal(sig os.Signal) error {
	p := s.newest()
	if p == nil {
		return errors.New("redisserver: an embedded server has no process of its own")
	}
	return p.cmd.Process.Signal(sig)
}

// Close ends the server, by its process id, and removes its directory. It may
// be called more than once.
func (s *Server) Close() error {
	s.once.Do(func() {
		if s.embedded != nil {
			close(s.stop)
			s.wg.Wait()
			s.embedded.Close()
			return
		}
		s.closeAdmin()
		if p := s.newest(); p != nil {
			terminate(p.cmd.Process)
			select {
			case <-p.exited:
			case <-time.After(3 * time.Second):
				p.cmd.Process.Kill()
				<-p.exited
			}
		}
		os.RemoveAll(s.dir)
	})
	return nil
}

func (s *Server) waitReady(p *process, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for {
		select {
		case <-p.exited:
			return fmt.Errorf("redisserver: redis-server ended at once: %s", p.log.Bytes())
		case <-ctx.Done():
			return fmt.Errorf("redisserver: redis-server at %s does not answer after %v", s.Addr, limit)
		case <-time.After(5 * time.Millisecond):
		}
		if answers(s.Addr, p.cmd.Process.Pid) {
			return nil
		}
	}
}

// answers says whether the process pid is the one that answers at addr: while it begins,
// another program's server may have taken the port. It speaks the protocol by hand, so
// that a server with a password or without RESP3 counts as up, too; one that does not
// let everybody ask who it is, is taken for pid.
func answers(addr string, pid int) bool {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return false
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Second))
	if _, err := c.Write([]byte("PING\r\nINFO server\r\n")); err != nil {
		return false
	}
	r := bufio.NewReader(c)
	for first := true; ; first = false {
		line, err := r.ReadString('\n')
		switch is, known := strings.CutPrefix(line, "process_id:"); {
		case err != nil:
			return false
		case known:
			return strings.TrimSpace(is) == strconv.Itoa(pid)
		case strings.HasPrefix(line, "-NOAUTH"), strings.HasPrefix(line, "-NOPERM"):
			return true
		case first && !strings.HasPrefix(line, "+PONG"): // it loads
			return false
		}
	}
}

func version(bin string) string {
	out, err := exec.Command(bin, "--version").Output()
	if err != nil {
		return filepath.Base(bin)
	}
	for f := range bytes.FieldsSeq(out) {
		if v, ok := bytes.CutPrefix(f, []byte("v=")); ok {
			return "redis-server " + string(v)
		}
	}
	return filepath.Base(bin)
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
