package hybrid

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	randv2 "math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
	"go.uber.org/zap"

	"github.com/flipcache/flipcache/internal/clock"
	"github.com/flipcache/flipcache/internal/dial"
	"github.com/flipcache/flipcache/invalidate"
)

// connection is what a Store speaks to Redis by.
type connection struct {
	client rueidis.Client
	data   rueidis.Client                     // for what a tier may hold: with Tracking the stream's, else client
	stream *invalidate.Stream                 // nil with invalidate.Off
	hangUp context.CancelFunc                 // cuts client's connections
	ear    *atomic.Pointer[invalidate.Stream] // stream, where client has to be led to its master
	conns  *dial.Conns                        // client's
}

func (c connection) closeStream() {
	if c.stream != nil {
		c.stream.Close()
	}
}

func (c connection) close(timeout time.Duration) {
	if c.client != nil {
		// With Sentinel it waits for a sentinel's answer, if it is asking just then.
		defer time.AfterFunc(timeout, c.hangUp).Stop()
		c.client.Close()
		c.hangUp()
	}
}

func open(ctx context.Context, o StoreOptions) (*Store, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	if err := ended(ctx); err != nil {
		return nil, err
	}
	s := &Store{
		mode: o.Invalidation, announces: o.Invalidation == invalidate.PubSub || o.Announce, timeout: o.Timeout,
		serveStale: o.ServeStaleFor, maxStaleness: o.MaxStaleness, clock: clock.NewCoarse(), opened: time.Now(), id: rand.Text(), logger: o.Logger,
		auditGrace: auditGrace, names: make(map[string]bool), deaf: make(map[string]error),
	}
	if o.MaxStaleness > 0 {
		s.lease = new(atomic.Int64)
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.endless = timeouts{parent: context.Background(), timeout: o.Timeout}
	s.own = timeouts{parent: s.ctx, timeout: o.Timeout}
	c, err := s.connect(ctx, o)
	switch {
	case err == nil:
		s.connection = c
		s.connected.Store(true)
	case o.StartCut && mendsItself(err):
		s.cause = err
		s.wg.Go(func() { s.keepConnecting(o) })
	default:
		s.Close()
		return nil, err
	}
	return s, nil
}

// mendsItself says whether what kept Open from connecting may pass.
func mendsItself(err error) bool {
	return !errors.Is(err, ErrPermission) && !errors.Is(err, ErrUnsupported) && !errors.Is(err, ErrOption)
}

// connect connects within o.Timeout, and within ctx if that ends sooner.
func (s *Store) connect(ctx context.Context, o StoreOptions) (c connection, err error) {
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	data := o.Client
	data.DisableCache = true // the local tier is ours
	data.DisableRetry = true // see ask
	if data.Dialer.Timeout == 0 || data.Dialer.Timeout > o.Timeout {
		data.Dialer.Timeout = o.Timeout
	}
	connections, hangUp := context.WithCancel(context.Background())
	c.hangUp, c.ear, c.conns = hangUp, new(atomic.Pointer[invalidate.Stream]), new(dial.Conns)
	ear := c.ear
	o.Client.DialCtxFn = s.greeting.Dial(o.Client) // the stream dials by it, too
	until := dial.Until(connections, o.Client, c.conns)
	data.DialCtxFn = func(ctx context.Context, addr string, d *net.Dialer, t *tls.Config) (net.Conn, error) {
		if stream := ear.Load(); stream != nil {
			stream.Dialing(addr)
		}
		conn, err := until(ctx, addr, d, t)
		s.dialed.Store(clock.Now())
		return conn, err
	}
	dial.Sentinels(&data, o.Timeout)
	connected := context.AfterFunc(ctx, hangUp) // from then on they end by close alone
	// The client may still dial for others with the context of what is asked here,
	// when that is answered: ctx ends it by hangUp alone.
	err = s.dial(context.WithoutCancel(ctx), &c, data, o)
	if !connected() && err == nil {
		err = ctx.Err()
	}
	if err == nil {
		return c, nil
	}
	c.closeStream()
	c.close(o.Timeout)
	hangUp()
	if ctx.Err() != nil && !errors.Is(err, ctx.Err()) {
		err = fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	return connection{}, err
}

func (s *Store) dial(ctx context.Context, c *connection, data rueidis.ClientOption, o StoreOptions) (err error) {
	at := strings.Join(o.Client.InitAddress, ", ")
	client, err := rueidis.NewClient(data)
	if err != nil {
		return fmt.Errorf("connect to Redis at %s: %w", at, redisError(err))
	}
	c.client, c.data = client, client
	if err := s.checkServer(ctx, client, o); err != nil {
		return fmt.Errorf("greet Redis at %s: %w", at, redisError(err))
	}
	if s.mode == invalidate.Off {
		return nil
	}
	config := invalidate.Config{
		Mode: s.mode, Client: o.Client, Timeout: o.Timeout, MaxStaleness: o.MaxStaleness, Lease: s.lease,
		Announces: s.announces, Dialed: &s.dialed, Logger: o.Logger, Leave: c.conns.Leave,
	}
	if s.mode == invalidate.PubSub {
		config.Data = client
	}
	stream, err := invalidate.Open(ctx, config)
	if err != nil {
		return fmt.Errorf("listen for invalidations at %s, mode %v: %w", at, s.mode, redisError(err))
	}
	if c.stream = stream; config.Data != nil {
		c.ear.Store(stream) // a probe finds out what happened before
	}
	if tracked := stream.Tracked(); tracked != nil {
		c.data = tracked
	}
	return nil
}

// greet says HELLO to the server; to all those of a cluster, of which one that answers
// will do.
func greet(ctx context.Context, client rueidis.Client, protocol string) (hello map[string]rueidis.RedisMessage, err error) {
	type answer struct {
		hello map[string]rueidis.RedisMessage
		err   error
	}
	nodes := client.Nodes()
	answers := make(chan answer, len(nodes))
	for _, node := range nodes {
		go func() { // not ended by another's answer: who else waits for its connection would fail with it
			hello, err := node.Do(ctx, node.B().Arbitrary("HELLO", protocol).Build()).AsMap()
			answers <- answer{hello, err}
		}()
	}
	for range nodes {
		a := <-answers
		if a.err == nil {
			return a.hello, nil
		}
		err = a.err
	}
	return nil, err
}

// checkServer asks the server who it is, and refuses what cannot serve.
func (s *Store) checkServer(ctx context.Context, client rueidis.Client, o StoreOptions) error {
	protocol := "3"
	if o.Client.AlwaysRESP2 {
		protocol = "2"
	}
	hello, err := greet(ctx, client, protocol)
	if re, ok := rueidis.IsRedisErr(err); ok && strings.Contains(strings.ToLower(re.Error()), "unknown command") {
		return fmt.Errorf("%w: the server knows no HELLO, so it is older than Redis 6.0: %w", ErrUnsupported, err)
	}
	if err != nil {
		return err
	}
	kind := hello["mode"]
	if mode, _ := kind.ToString(); mode == "cluster" {
		if err := o.checkCluster(); err != nil {
			return err
		}
		s.inCluster = true
	}
	m := hello["version"]
	version, err := m.ToString()
	if err != nil {
		return fmt.Errorf("the answer to HELLO has no version: %w", err)
	}
	major, _, _ := strings.Cut(version, ".")
	if n, err := strconv.Atoi(major); err == nil && n < 6 {
		return fmt.Errorf("%w: the server is Redis %s: 6.0 or later is needed", ErrUnsupported, version)
	}
	return nil
}

// notConnected is why an operation of a Store with StartCut cannot begin.
func (s *Store) notConnected() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Errorf("%w: not connected yet: %w", ErrCut, s.cause)
}

// Pauses between attempts to connect with StartCut.
const (
	minConnectPause = 20 * time.Millisecond
	maxConnectPause = 2 * time.Second
)

// keepConnecting connects, as soon as it can be done.
func (s *Store) keepConnecting(o StoreOptions) {
	for pause := minConnectPause; ; pause = min(2*pause, maxConnectPause) {
		select {
		case <-s.ctx.Done():
			return
		case <-time.After(pause/2 + randv2.N(pause)): // a fleet that starts at once does not dial at once
		}
		c, err := s.connect(s.ctx, o)
		s.mu.Lock()
		if err != nil {
			s.cause = err
			s.mu.Unlock()
			continue
		}
		s.connection = c
		caches, waiting := s.caches, s.waiting
		for _, c := range caches {
			c.connect()
		}
		s.connected.Store(true)
		s.mu.Unlock()
		for _, c := range caches {
			ctx, cancel := s.bound(s.ctx)
			if err := c.join(ctx); err != nil && s.ctx.Err() == nil {
				s.mu.Lock()
				s.deaf[c.Name()] = err
				s.mu.Unlock()
				if s.logger != nil {
					s.logger.Warn("a cache hears no invalidations: its reads ask Redis", zap.String("cache", c.Name()), zap.Error(err))
				}
			}
			cancel()
		}
		for _, w := range waiting {
			w.watch(s.stream)
		}
		return
	}
}

// A cache is what a Store knows of a Cache.
type cache interface {
	Name() string
	connect() // takes the Store's connection
	join(ctx context.Context) error
	close()
}

// A watcher is a function of OnState from before the Store was connected.
type watcher struct {
	fn func(invalidate.State)

	mu      sync.Mutex // guards all below
	removed bool
	remove  func()
}

// watch tells fn the stream's states from the present one on.
func (w *watcher) watch(s *invalidate.Stream) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.removed && s != nil {
		w.remove = s.Watch(w.fn)
	}
}

func (w *watcher) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.removed = true; w.remove != nil {
		w.remove()
	}
}

// State says whether this process hears the others' writes, and if not, why.
func (s *Store) State() invalidate.State {
	if s.connected.Load() && s.stream != nil {
		return s.stream.State()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st := invalidate.State{Status: invalidate.Disabled, Since: s.opened}
	switch {
	case s.closed:
		st.Status = invalidate.Closed
	case !s.connected.Load():
		st.Status, st.Cause = invalidate.Cut, s.cause
	}
	return st
}

// OnState has fn called with each new state, in order, on a goroutine of its
// own; it may block and may call any method but Close. remove ends it. With
// invalidate.Off there is never a new state.
func (s *Store) OnState(fn func(invalidate.State)) (remove func()) {
	s.mu.Lock()
	if !s.connected.Load() {
		w := &watcher{fn: fn}
		s.waiting = append(s.waiting, w)
		s.mu.Unlock()
		return w.end
	}
	s.mu.Unlock()
	if s.stream == nil {
		return func() {}
	}
	return s.stream.OnState(fn)
}
