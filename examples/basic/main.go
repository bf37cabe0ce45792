// Basic is an analytics cache: a profile a user, kept for 15 minutes from the
// last time that somebody looked, created on first sight, and counted up by
// several processes at once without losing a count.
//
//	go run ./examples/basic            # on a redis-server of its own, or an embedded one
//	go run ./examples/basic -redis localhost:6379
package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/examples/internal/start"
	"github.com/flipcache/flipcache/hybrid"
	"github.com/flipcache/flipcache/invalidate"
)

// Profile is what is cached, as JSON.
type Profile struct {
	User string `json:"user"`
	Hits int    `json:"hits"`
}

func main() { start.Main(run) }

// open is what each process of the service does once.
func open(ctx context.Context, client rueidis.ClientOption) (*hybrid.Store, *hybrid.Cache[string, Profile], error) {
	store, err := hybrid.Open(ctx, hybrid.StoreOptions{Client: client, Invalidation: invalidate.PubSub})
	if err != nil {
		return nil, nil, err
	}
	profiles, err := hybrid.New(store, "profiles", hybrid.Options[string, Profile]{
		TTL:             15 * time.Minute,
		RefreshTTLOnGet: true,
		Default:         func(user string) (Profile, error) { return Profile{User: user}, nil },
	})
	if err != nil {
		store.Close()
		return nil, nil, err
	}
	return store, profiles, nil
}

func run(ctx context.Context, client rueidis.ClientOption, out io.Writer) error {
	// Two processes of the service; here both are in this one.
	storeA, profilesA, err := open(ctx, client)
	if err != nil {
		return err
	}
	defer storeA.Close()
	storeB, profilesB, err := open(ctx, client)
	if err != nil {
		return err
	}
	defer storeB.Close()

	p, err := profilesA.Get(ctx, "ada") // not there: Default makes it
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "first sight:      %+v\n", p)

	// Read, change and write back would lose counts between the two. Update
	// makes the change at Redis.
	done := make(chan error, 2)
	for _, profiles := range []*hybrid.Cache[string, Profile]{profilesA, profilesB} {
		go func() {
			for range 100 {
				if err := hit(ctx, profiles, "ada"); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range 2 {
		if err := <-done; err != nil {
			return err
		}
	}
	p, err = profilesB.Get(ctx, "ada")
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "after 2x100 hits: %+v\n", p)

	began := time.Now()
	const reads = 100_000
	for range reads {
		if _, err := profilesB.Get(ctx, "ada"); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, "a local read:     %v\n", time.Since(began)/reads)
	ttl, err := profilesB.TTL(ctx, "ada")
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "lives for:        %v\n", ttl.Round(time.Minute))
	return nil
}

func hit(ctx context.Context, profiles *hybrid.Cache[string, Profile], user string) error {
	profile, err := profiles.Update(ctx, user, func(p Profile, _ bool) (Profile, error) {
		p.Hits++
		return p, nil
	})
	if err == nil && profile.Hits == 0 {
		return fmt.Errorf("user %s: no hit was counted", user)
	}
	return err
}
