// Package hybrid is a cache for services that run as many processes: a bounded
// local tier in each, in front of one Redis, and invalidation that keeps the
// local tiers honest.
//
// # A first look
//
// A [Store] is one process's link to Redis, a [Cache] a namespace on it. One
// option decides what a local read may return:
//
//	store, err := hybrid.Open(ctx, hybrid.StoreOptions{
//		Client:       client, // rueidis.ClientOption{InitAddress: []string{"localhost:6379"}}
//		Invalidation: invalidate.PubSub, // the one switch
//	})
//	if err != nil {
//		fmt.Println(err)
//		return
//	}
//	defer store.Close()
//
//	users, err := hybrid.New(store, "users", hybrid.Options[string, User]{TTL: time.Hour})
//	if err != nil {
//		fmt.Println(err)
//		return
//	}
//	users.Set(ctx, "42", User{Name: "Ada"}) // one round trip; all other processes drop their copy
//	user, err := users.Get(ctx, "42")       // from this process's memory
//
// With [invalidate.Off] a local read may be as old as Options.LocalTTL. With
// [invalidate.PubSub] every write through this library, in any process, drops
// the entry in all others, within a message's delivery. With
// [invalidate.Tracking] every change does, whoever makes it.
// StoreOptions.MaxStaleness bounds in both how long ago what a local read
// returns was replaced, whatever fails.
//
// # Where a read, a write and an invalidation go
//
// A read looks into the local tier (no lock, no allocation), and on a miss asks
// Redis for the value and its remaining life in one round trip, which all who
// ask for the key at that time share. A write is sent to Redis together with
// its announcement, in one atomic step, and enters the local tier only after
// Redis said yes. An invalidation comes on one ordered stream. What is under
// way meanwhile is judged by one table (internal/flights), so that no reply
// that was overtaken enters the local tier.
//
// # What to use when
//
//   - [Cache.Get], [Cache.GetMany]: read. [Cache.GetOrLoad], or
//     Options.Default: read, and load what is missing, once a process, without
//     ever storing what a Delete or Set has overtaken.
//   - [Cache.Set], [Cache.SetTTL], [Cache.SetMany], [Cache.Delete]: write.
//   - [Cache.Update], [Incr], [Cache.SetIfAbsent], [Cache.GetAndDelete]: change
//     at Redis, atomically; Get and then Set loses what others wrote between.
//   - [Cache.Touch], [Cache.TTL], Options.RefreshTTLOnGet: lifetimes.
//   - [Cache.Keys], [Cache.Count], [Cache.Clear]: the whole namespace.
//   - [Cache.Fresh]: a view whose reads go to Redis. [Cache.GetMeta]: where a
//     value comes from, and how old it is.
//   - [Store.State], [Store.OnState], [Store.Check]: whether invalidation works,
//     and why not.
//   - StoreOptions.ServeStaleFor: what reads return when Redis does not answer.
//
// # Caveats
//
// Values are shared by all who read them; treat them as read-only or set
// Options.Clone. With invalidate.PubSub, what foreign programs write, and what
// Redis expires or evicts by itself, is not announced: local entries end with
// the remaining life that the key had when it was read, and after
// Options.LocalTTL at the latest. Between a write and its delivery elsewhere,
// others read the old value: some hundred microseconds on a quiet network. A
// process that is stopped cannot know that it is behind, nor can one whose link
// is silent: that is what MaxStaleness is for.
package hybrid
