// Rolling-deploy changes the type behind a cache while two releases of the
// service run side by side on the same keys. A byte in front of each value tells
// its version, and it takes two deploys:
//
//	release 1  writes version 1
//	release 2  writes version 1 still, and reads version 2 already
//	release 3  writes version 2, and reads version 1
//
// Only neighbours run together, and neighbours understand each other.
//
//	go run ./examples/rolling-deploy
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/codec"
	"github.com/flipcache/flipcache/examples/internal/start"
	"github.com/flipcache/flipcache/hybrid"
	"github.com/flipcache/flipcache/invalidate"
)

// UserV1 is what releases 1 and 2 work with.
type UserV1 struct {
	Name string `json:"name"`
}

// UserV2 is what release 3 works with.
type UserV2 struct {
	First string `json:"first"`
	Last  string `json:"last"`
}

const (
	version1 = 0x01
	version2 = 0x02
)

func release1() (codec.Codec[UserV1], error) {
	return codec.Versioned(codec.Versions[UserV1]{Current: version1, Codec: codec.JSON[UserV1]()})
}

func release2() (codec.Codec[UserV1], error) {
	next := codec.JSON[UserV2]()
	return codec.Versioned(codec.Versions[UserV1]{
		Current: version1,
		Codec:   codec.JSON[UserV1](),
		Older: map[byte]func([]byte) (UserV1, error){
			version2: func(data []byte) (UserV1, error) {
				u, err := next.Decode(data)
				return UserV1{Name: u.First + " " + u.Last}, err
			},
		},
	})
}

func release3() (codec.Codec[UserV2], error) {
	previous := codec.JSON[UserV1]()
	return codec.Versioned(codec.Versions[UserV2]{
		Current: version2,
		Codec:   codec.JSON[UserV2](),
		Older: map[byte]func([]byte) (UserV2, error){
			version1: func(data []byte) (UserV2, error) {
				u, err := previous.Decode(data)
				first, last, _ := strings.Cut(u.Name, " ")
				return UserV2{First: first, Last: last}, err
			},
		},
	})
}

func main() { start.Main(run) }

// deploy starts a process of a release.
func deploy[V any](ctx context.Context, client rueidis.ClientOption, release func() (codec.Codec[V], error)) (*hybrid.Store, *hybrid.Cache[string, V], error) {
	form, err := release()
	if err != nil {
		return nil, nil, err
	}
	store, err := hybrid.Open(ctx, hybrid.StoreOptions{Client: client, Invalidation: invalidate.PubSub})
	if err != nil {
		return nil, nil, err
	}
	users, err := hybrid.New(store, "users", hybrid.Options[string, V]{Codec: form, TTL: time.Hour})
	if err != nil {
		store.Close()
		return nil, nil, err
	}
	return store, users, nil
}

func run(ctx context.Context, client rueidis.ClientOption, out io.Writer) error {
	store1, users1, err := deploy(ctx, client, release1)
	if err != nil {
		return err
	}
	defer store1.Close()
	store2, users2, err := deploy(ctx, client, release2)
	if err != nil {
		return err
	}
	defer store2.Close()
	store3, users3, err := deploy(ctx, client, release3)
	if err != nil {
		return err
	}
	defer store3.Close()

	if err := users1.Set(ctx, "ada", UserV1{"Ada Lovelace"}); err != nil {
		return err
	}
	u2, err := users2.Get(ctx, "ada")
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "release 1 wrote, release 2 reads: %+v\n", u2)
	u3, err := users3.Get(ctx, "ada")
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "release 1 wrote, release 3 reads: %+v\n", u3)

	if err := users3.Set(ctx, "alan", UserV2{"Alan", "Turing"}); err != nil {
		return err
	}
	if u2, err = users2.Get(ctx, "alan"); err != nil {
		return err
	}
	fmt.Fprintf(out, "release 3 wrote, release 2 reads: %+v\n", u2)

	// Who skips release 2 has this in release 1 until the deploy is over: a
	// typed error from Get, and from GetOrLoad the value of the source.
	_, err = users1.Get(ctx, "alan")
	fmt.Fprintf(out, "release 3 wrote, release 1 reads: unknown version %t\n", errors.Is(err, codec.ErrVersion))
	u1, err := users1.GetOrLoad(ctx, "alan", func(context.Context, string) (UserV1, error) { return UserV1{"Alan Turing"}, nil })
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "and loads:                        %+v\n", u1)
	return nil
}
