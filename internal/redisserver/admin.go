package redisserver

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/redis/rueidis"
)

// admin is a connection of the one who runs the server, made when it is first
// used.
type admin struct {
	mu     sync.Mutex
	client rueidis.Client
}

// adminTimeout bounds a command of Do.
const adminTimeout = 5 * time.Second

// Do runs one command as an administrator would, by a connection of its own. A
// reply of nil is no error.
func (s *Server) Do(command ...string) (rueidis.RedisMessage, error) {
	s.admin.mu.Lock()
	defer s.admin.mu.Unlock()
	if s.admin.client == nil {
		o := s.ClientOption()
		o.PipelineMultiplex = -1
		o.DisableRetry = true
		var err error
		if s.admin.client, err = rueidis.NewClient(o); err != nil {
			return rueidis.RedisMessage{}, fmt.Errorf("redisserver: %s: %w", s.Addr, err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), adminTimeout)
	defer cancel()
	m, err := s.admin.client.Do(ctx, s.admin.client.B().Arbitrary(command...).Build()).ToMessage()
	if err != nil && !rueidis.IsRedisNil(err) {
		return m, fmt.Errorf("redisserver: %s: %q: %w", s.Addr, command, err)
	}
	return m, nil
}

func (s *Server) closeAdmin() {
	s.admin.mu.Lock()
	defer s.admin.mu.Unlock()
	if s.admin.client != nil {
		s.admin.client.Close()
		s.admin.client = nil
	}
}

// Kill ends the server at once, as a crash does, by its process id. Close may
// follow.
func (s *Server) Kill() {
	p := s.newest()
	p.cmd.Process.Kill()
	<-p.exited
	s.closeAdmin()
}

// Pause stops the server's process until resume is called: it is silent, and its
// connections stay.
func (s *Server) Pause() (resume func()) {
	s.Signal(syscall.SIGSTOP)
	return sync.OnceFunc(func() { s.Signal(syscall.SIGCONT) })
}

// until polls cond. what names what it waits for.
func until(limit time.Duration, what string, cond func() bool) error {
	for deadline := time.Now().Add(limit); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("redisserver: not after %v: %s", limit, what)
		}
	}
	return nil
}
