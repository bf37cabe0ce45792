package hybrid_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/hybrid"
	"github.com/flipcache/flipcache/invalidate"
)

func Example() {
	type User struct{ Name string }
	client := rueidis.ClientOption{InitAddress: []string{hybrid.ExampleAddr}, ForceSingleClient: true} // the test's own server
	ctx := context.Background()

	store, err := hybrid.Open(ctx, hybrid.StoreOptions{
		Client:       client,            // rueidis.ClientOption{InitAddress: []string{"localhost:6379"}}
		Invalidation: invalidate.PubSub, // the one switch
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close()

	users, err := hybrid.New(store, "users", hybrid.Options[string, User]{TTL: time.Hour})
	if err != nil {
		fmt.Println(err)
		return
	}
	users.Set(ctx, "42", User{Name: "Ada"}) // one round trip; all other processes drop their copy
	user, err := users.Get(ctx, "42")       // from this process's memory
	fmt.Println(user.Name, err)
	_, err = users.Get(ctx, "43")
	fmt.Println(errors.Is(err, hybrid.ErrNotFound))
	// Output:
	// Ada <nil>
	// true
}

func ExampleCache_Acked() {
	type User struct{ Name string }
	var ( // as in the example of the package; the Store has MaxStaleness
		ctx   context.Context
		store *hybrid.Store
		user  = User{Name: "Grace"}
	)
	users, err := hybrid.New(store, "users", hybrid.Options[string, User]{})
	if err != nil {
		return
	}
	err = users.Acked().Set(ctx, "42", user)
	switch {
	case errors.Is(err, hybrid.ErrUnconfirmed): // it is in Redis; err says who may not know
	case err != nil: // as without Acked
	}
}
