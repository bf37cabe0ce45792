package hybrid

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
	"go.uber.org/zap"

	"github.com/flipcache/flipcache/internal/clock"
	"github.com/flipcache/flipcache/internal/dial"
	"github.com/flipcache/flipcache/internal/slots"
	"github.com/flipcache/flipcache/invalidate"
)

// StoreOptions is what a process needs to take part. Only Client is required.
type StoreOptions struct {
	// Client says where Redis is and who we are: addresses, TLS, user and
	// password, sentinels. It is rueidis' own struct. Reads must go to the
	// master: SendToReplicas and ReplicaOnly are refused. Its retries are not
	// used: a read that meets a dead connection is sent once more, a write never.
	Client rueidis.ClientOption

	// Invalidation is the one switch for coherence between processes. The
	// zero value is invalidate.Off.
	Invalidation invalidate.Mode

	// MaxStaleness bounds, with invalidate.PubSub or Tracking, how long ago what
	// a local read returns was replaced, whatever fails: messages, connections,
	// this process for a while. It is a lease that Redis has to renew, by a small
	// write every third of it; past its end every read asks Redis. 0: no lease;
	// else invalidate.MinStaleness to invalidate.MaxMaxStaleness. The clock
	// stands still on a machine that is suspended whole.
	MaxStaleness time.Duration

	// ServeStaleFor lets reads that Redis does not answer have what the local tier
	// held when invalidation was cut, for so long from the cut. It is set aside
	// there, read by nothing else, loses what this process writes, deletes or
	// clears, and is dropped when invalidation is back. It voids all bounds on
	// staleness in this process meanwhile; GetMeta and Stats tell. 0: such reads
	// return their error.
	ServeStaleFor time.Duration

	// Announce has a process with invalidate.Tracking announce its writes, too,
	// for those of the same caches that are in invalidate.PubSub.
	Announce bool

	// StartCut has Open succeed although Redis cannot be reached: the Store is
	// cut, its caches can be opened, loads return what they load, all else fails
	// with ErrCut, and it goes live by itself. What would not mend itself still
	// fails Open: options, rights, a server that is too old. If Redis refuses a
	// cache's channel later, Logger says so and its reads go to Redis.
	StartCut bool

	// Timeout bounds each command whose context has no nearer end, and each
	// attempt to connect. Default 3 s; at least 1 ms. Where the context has no end
	// at all, the command may have up to 1/16 more.
	Timeout time.Duration

	// Logger gets a line when invalidation is cut and one when it is back.
	// nil: silent.
	Logger *zap.Logger
}

const (
	defaultTimeout = 3 * time.Second
	minTimeout     = time.Millisecond
)

// A Store is one process's link to Redis. Everything opened on it shares its
// connections, its stream of invalidations and its clock. A process needs one.
// Safe for concurrent use.
type Store struct {
	connection      // set once; read by nobody before connected says so
	inCluster  bool // the server is a Redis Cluster's; likewise
	connected  atomic.Bool

	mode         invalidate.Mode
	announces    bool // writes are announced
	timeout      time.Duration
	breaker      breaker
	breakers     [64]breaker // in a cluster: of the slots that have the same upper bits
	serveStale   time.Duration
	maxStaleness time.Duration
	greeting     dial.Greeting // of all connections
	dialed       atomic.Int64  // when the newest connection was made that may carry writes
	lease        *atomic.Int64 // until when local tiers may serve; nil without MaxStaleness
	clock        *clock.Coarse
	opened       time.Time
	id           string        // tells this Store's load tokens from others'
	tokens       atomic.Uint64 // number of load tokens
	logger       *zap.Logger   // or nil

	endless, own timeouts // of what a caller without an end asks for, and of what hangs on ctx

	ctx    context.Context // ends at Close; what runs in the background hangs on it
	cancel context.CancelFunc
	wg     sync.WaitGroup
	late   sync.WaitGroup // of what goes on behind its context's end; Add under mu, unless closed

	mu      sync.Mutex // guards all below
	names   map[string]bool
	closed  bool
	caches  []cache
	cause   error            // why it is not connected
	waiting []*watcher       // of OnState, until it is connected
	deaf    map[string]error // why caches of before it was connected hear nothing

	checking sync.Mutex // held by the one Check that listens

	auditGrace time.Duration // see auditor; tests set it, before any use

	// hook, set by tests only and before any use, runs at the places where
	// races are decided: see the constants.
	hook func(place string, key string)
}

// The places at which hook runs.
const (
	afterReadReply   = "a fill has its reply, and has not ended"
	beforeWriteSend  = "a write is open, and was not sent"
	afterWriteReply  = "a write has its reply, and has not ended"
	loadIsJoined     = "a caller has opened or joined a load"
	beforeWriteBack  = "a loader has returned, and nothing was written back"
	afterTokenIsLaid = "a load's token is laid, and the loader has not begun"
)

// at is called with the parts of the Redis key, which it joins for a hook only.
func (s *Store) at(place string, key ...string) {
	if s.hook != nil {
		s.hook(place, strings.Join(key, ""))
	}
}

// Open connects this process to Redis. With invalidation on it also subscribes,
// and fails unless both may be done.
//
// Errors: ErrOption (names each option that is wrong), ErrPermission,
// ErrUnsupported (a Redis older than 6.0, no CLIENT TRACKING), or that
// of the connection. ctx bounds the attempt, as does Timeout; it may end after
// Open has returned.
func Open(ctx context.Context, o StoreOptions) (*Store, error) {
	s, err := open(ctx, o)
	if err != nil {
		return nil, &Error{Op: "open", Err: err}
	}
	return s, nil
}

// ask sends commands that only read, and those that may be done twice. If they
// meet a dead connection they are sent once more, on a new one; then they fail,
// rather than wait for Redis until the time is over. Each attempt has commands
// of its own: where rueidis sends the same ones again it reuses their memory
// when they succeed, while the dead connection's writer may still read it.
func (s *Store) ask(ctx context.Context, client rueidis.Client, commands func() []rueidis.Completed) []rueidis.RedisResult {
	results := s.tell(ctx, client, commands())
	for _, r := range results {
		err := r.Error()
		if noAnswer(err) && ctx.Err() == nil && !errors.Is(err, context.DeadlineExceeded) {
			return s.tell(ctx, client, commands())
		}
	}
	return results
}

// ask1 is ask for one command.
func (s *Store) ask1(ctx context.Context, client rueidis.Client, command func() rueidis.Completed) rueidis.RedisResult {
	return s.ask(ctx, client, func() []rueidis.Completed { return []rueidis.Completed{command()} })[0]
}

// tell sends commands once.
func (s *Store) tell(ctx context.Context, client rueidis.Client, commands []rueidis.Completed) []rueidis.RedisResult {
	if s.inCluster && len(commands) > 0 {
		commands = pinned(commands)
		return whileMoving(ctx, func() []rueidis.RedisResult { return s.tellOnce(ctx, client, commands) })
	}
	return s.tellOnce(ctx, client, commands)
}

func (s *Store) tellOnce(ctx context.Context, client rueidis.Client, commands []rueidis.Completed) []rueidis.RedisResult {
	breaker := s.breakerOf(commands)
	pass, err := breaker.enter()
	if err != nil {
		return slices.Repeat([]rueidis.RedisResult{rueidis.NewErrorResult(err)}, len(commands))
	}
	var results []rueidis.RedisResult
	if !s.greeting.UnderWay() {
		results = send(ctx, client, commands)
	} else if results, err = inTime(ctx, s, func() []rueidis.RedisResult { return send(ctx, client, commands) }); err != nil {
		results = slices.Repeat([]rueidis.RedisResult{rueidis.NewErrorResult(err)}, len(commands))
	}
	breaker.leave(ctx, pass, results[len(results)-1].Error()) // behind one without an answer none has one
	return results
}

func send(ctx context.Context, client rueidis.Client, commands []rueidis.Completed) []rueidis.RedisResult {
	if len(commands) == 1 {
		return []rueidis.RedisResult{client.Do(ctx, commands[0])}
	}
	return client.DoMulti(ctx, commands...)
}

// inTime returns what do does, or, with an error, when ctx ends, and do goes on: rueidis
// has commands wait for a connection that another is making, however long.
func inTime[T any](ctx context.Context, s *Store, do func() T) (result T, err error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return result, ErrClosed
	}
	s.late.Add(1)
	s.mu.Unlock()
	done := make(chan T, 1)
	go func() {
		defer s.late.Done()
		done <- do()
	}()
	select {
	case result = <-done:
		return result, nil
	case <-ctx.Done():
		return result, ctx.Err()
	}
}

// run runs a script once.
func (s *Store) run(ctx context.Context, client rueidis.Client, script *rueidis.Lua, keys, args []string) rueidis.RedisResult {
	if s.inCluster {
		return whileMoving(ctx, func() []rueidis.RedisResult {
			return []rueidis.RedisResult{s.runOnce(ctx, client, script, keys, args)}
		})[0]
	}
	return s.runOnce(ctx, client, script, keys, args)
}

func (s *Store) runOnce(ctx context.Context, client rueidis.Client, script *rueidis.Lua, keys, args []string) rueidis.RedisResult {
	breaker := &s.breaker
	if s.inCluster {
		breaker = s.breakerOfSlot(slots.Of(keys[0]))
	}
	pass, err := breaker.enter()
	if err != nil {
		return rueidis.NewErrorResult(err)
	}
	var r rueidis.RedisResult
	if !s.greeting.UnderWay() {
		r = script.Exec(ctx, client, keys, args)
	} else if r, err = inTime(ctx, s, func() rueidis.RedisResult { return script.Exec(ctx, client, keys, args) }); err != nil {
		r = rueidis.NewErrorResult(err)
	}
	breaker.leave(ctx, pass, r.Error())
	return r
}

func (o StoreOptions) validate() error {
	var errs []error
	if len(o.Client.InitAddress) == 0 {
		errs = append(errs, optionError("Client.InitAddress is empty: give it Redis' host:port"))
	}
	if o.Client.SendToReplicas != nil || o.Client.ReplicaOnly {
		errs = append(errs, optionError("Client.SendToReplicas and Client.ReplicaOnly: a replica lags behind the invalidations; leave both out"))
	}
	switch o.Invalidation {
	case invalidate.Off:
		if o.MaxStaleness != 0 {
			errs = append(errs, optionError("MaxStaleness is %v although Invalidation is Off: use invalidate.PubSub or invalidate.Tracking, or Options.LocalTTL", o.MaxStaleness))
		}
	case invalidate.PubSub:
	case invalidate.Tracking:
		if o.Client.AlwaysRESP2 {
			errs = append(errs, optionError("Client.AlwaysRESP2 is set although Invalidation is Tracking, which is RESP3: leave it out, or use invalidate.PubSub"))
		}
	default:
		errs = append(errs, optionError("Invalidation: %v: use invalidate.Off, invalidate.PubSub or invalidate.Tracking", o.Invalidation))
	}
	if o.MaxStaleness != 0 && (o.MaxStaleness < invalidate.MinStaleness || o.MaxStaleness > invalidate.MaxMaxStaleness) {
		errs = append(errs, optionError("MaxStaleness is %v: use %v to %v, or 0 for none", o.MaxStaleness, invalidate.MinStaleness, invalidate.MaxMaxStaleness))
	}
	if o.ServeStaleFor < 0 || o.ServeStaleFor > 0 && o.Invalidation == invalidate.Off {
		errs = append(errs, optionError("ServeStaleFor is %v with Invalidation %v: use 0 or more, with invalidate.PubSub or invalidate.Tracking", o.ServeStaleFor, o.Invalidation))
	}
	if o.Announce && o.Invalidation != invalidate.Tracking {
		errs = append(errs, optionError("Announce is set although Invalidation is %v: leave it out", o.Invalidation))
	}
	if o.Timeout != 0 && o.Timeout < minTimeout {
		errs = append(errs, optionError("Timeout is %v: use at least %v, or 0 for %v", o.Timeout, minTimeout, defaultTimeout))
	}
	return errors.Join(errs...)
}

// StoreStats counts what concerns all caches of a Store.
type StoreStats struct {
	Cuts     uint64 // how often invalidation was lost
	Rejected uint64 // malformed messages, each of which emptied a local tier
}

// Stats returns the counts since Open.
func (s *Store) Stats() StoreStats {
	if !s.connected.Load() || s.stream == nil {
		return StoreStats{}
	}
	return StoreStats{Cuts: s.stream.State().Cuts, Rejected: s.stream.Rejected()}
}

// Close ends everything that was opened on the Store and waits for its
// goroutines, at most about Timeout; loaders that are running have their
// context ended and are not waited for. Methods called during or after it
// return ErrClosed. It returns nil, also the second time.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	caches := s.caches
	s.mu.Unlock()

	s.cancel()
	s.wg.Wait() // nobody connects any more
	s.connection.closeStream()
	for _, c := range caches {
		c.close()
	}
	s.connection.close(s.timeout)
	s.late.Wait()
	s.clock.Close()
	return nil
}

// ready says whether an operation may begin.
func (s *Store) ready(ctx context.Context) error {
	if s.ctx.Err() != nil {
		return ErrClosed
	}
	if !s.connected.Load() {
		return s.notConnected()
	}
	return ended(ctx)
}

// bound gives ctx the Store's timeout, unless it ends sooner by itself.
func (s *Store) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	if ctx.Done() == nil {
		return s.endless.context(), noCancel
	}
	if d, ok := ctx.Deadline(); ok && time.Until(d) <= s.timeout {
		return callers{ctx}, noCancel
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.timeout, errTimeout)
	return callers{ctx}, cancel
}

func noCancel() {}

// callers is a context that ends when its caller says so, and hides when that will
// be: rueidis makes a deadline the connection's where nobody else uses it, does not
// look at Done meanwhile, and at the deadline closes the connection, on which other
// calls have been queued by then.
type callers struct{ context.Context }

func (callers) Deadline() (deadline time.Time, ok bool) { return time.Time{}, false }

// background returns the context of what several may wait for: it hangs on no
// caller's.
func (s *Store) background() context.Context { return s.own.context() }
