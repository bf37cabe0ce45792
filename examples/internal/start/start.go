// Package start gives the small examples a Redis to run on.
package start

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"os"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/internal/redisserver"
)

// Main runs an example on the Redis that -redis names, or else on a server of
// its own: a redis-server where one is installed, an embedded miniredis if not.
func Main(run func(ctx context.Context, client rueidis.ClientOption, out io.Writer) error) {
	log.SetFlags(0)
	addr := flag.String("redis", "", "host:port of Redis; empty: start a server for the example")
	flag.Parse()
	if err := serve(*addr, run); err != nil {
		log.Fatal(err)
	}
}

func serve(addr string, run func(context.Context, rueidis.ClientOption, io.Writer) error) error {
	client := rueidis.ClientOption{InitAddress: []string{addr}}
	if addr == "" {
		s, err := redisserver.Any()
		if err != nil {
			return err
		}
		defer s.Close()
		fmt.Println("server:", s.Kind)
		client = s.ClientOption()
	}
	return run(context.Background(), client, os.Stdout)
}
