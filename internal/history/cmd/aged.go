//go:build unix

package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/flipcache/flipcache/internal/redisserver"
	"github.com/flipcache/flipcache/invalidate"
)

// aged waits until the server has run for longer than any lease: acknowledged writes
// would wait for that, since it could be one that has lost who listens.
func aged(ctx context.Context, s *redisserver.Server) error {
	for {
		m, err := s.Do("INFO", "server")
		if err != nil {
			return err
		}
		info, _ := m.ToString()
		_, after, _ := strings.Cut(info, "uptime_in_seconds:")
		var seconds int
		if fmt.Sscan(after, &seconds); time.Duration(seconds)*time.Second > invalidate.MaxMaxStaleness+2*time.Second {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}
