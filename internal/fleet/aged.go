//go:build unix

package fleet

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/invalidate"
)

// Aged waits until the server has run for longer than any lease: acknowledged writes
// would wait for that, since before it could be one that has lost who listens.
func Aged(ctx context.Context, o rueidis.ClientOption) error {
	client, err := rueidis.NewClient(o)
	if err != nil {
		return err
	}
	defer client.Close()
	for {
		info, err := client.Do(ctx, client.B().Info().Section("server").Build()).ToString()
		_, after, found := strings.Cut(info, "uptime_in_seconds:")
		if err != nil || !found {
			return ctx.Err() // miniredis does not say
		}
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
