package invalidate

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	mrand "math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
	"go.uber.org/zap"

	"github.com/flipcache/flipcache/internal/dial"
)

// A Tier is what the stream drives: the local tier of one cache. Its methods
// are called in the stream's order, one at a time, and must neither wait for
// Redis nor run a user's code.
type Tier interface {
	// Drop tells that key was changed by the write with this nonce. own says
	// that the write was this process's.
	Drop(key string, nonce uint64, own bool)
	// DropAll tells that any key may have changed.
	DropAll()
	// Cut tells that messages may be lost from here on.
	Cut()
	// Resume tells that every message published from here on will be heard.
	Resume()
}

// Config is what a Stream needs.
type Config struct {
	// Client says where Redis is. The stream makes a client of its own from
	// it: a subscribed connection must carry no writes (before Redis 7.2 a
	// message inside EXEC's reply breaks the protocol), and it notices a dead
	// link sooner than one that carries data should.
	Client rueidis.ClientOption
	// Timeout bounds dialling and each command of the stream. Required.
	Timeout time.Duration
	// Logger gets a line a cut and a line a resume. nil: silent.
	Logger *zap.Logger

	probeEvery time.Duration // tests shorten it
}

// A Stream is one process's ear for the writes of all: one connection for the
// channels of all its caches. Safe for concurrent use.
type Stream struct {
	cfg    Config
	client rueidis.Client
	sender Sender
	self   string // the channel of this process, for probes
	nonces atomic.Uint64

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	// mu makes one ordered stream of messages, cuts and resumes: it is held
	// while tiers are told. Taken before any lock of a tier. Guards all below.
	mu       sync.Mutex
	session  uint64 // of the newest connection; what others still say is void
	conn     rueidis.DedicatedClient
	topics   map[string]*topic // by channel
	state    State
	echo     string // the last probe that was heard
	rejected uint64
	watchers watchers
}

type topic struct {
	tier Tier
	live bool // its subscription is confirmed on the newest connection
}

// REQUIRES: Stream.mu held.
func (t *topic) cut() {
	if t != nil && t.live {
		t.live = false
		t.tier.Cut()
	}
}

const (
	channelPrefix = "flipcache:inv:"
	selfPrefix    = "flipcache:self:"

	defaultProbeEvery = 5 * time.Second
	// A dead link is noticed after at most twice the first and the second.
	streamKeepAlive    = time.Second
	streamWriteTimeout = 2 * time.Second

	minBackoff = 10 * time.Millisecond
	maxBackoff = 2 * time.Second
)

// Channel returns the channel on which writes of the cache with this name are
// announced.
func Channel(name string) string { return channelPrefix + name }

// Open connects and subscribes. It fails if Redis cannot be reached, or refuses
// to let this user subscribe or publish, or if what is published is not heard;
// ctx bounds the attempt, and each step of it is bounded by cfg.Timeout.
func Open(ctx context.Context, cfg Config) (*Stream, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if cfg.probeEvery == 0 {
		cfg.probeEvery = defaultProbeEvery
	}
	s := &Stream{cfg: cfg, topics: make(map[string]*topic)}
	rand.Read(s.sender[:]) // never fails
	s.self = fmt.Sprintf("%s%x", selfPrefix, s.sender)
	s.nonces.Store(1) // 0 means: no nonce
	s.state = State{Status: Cut, Since: time.Now(), Cause: errors.New("not connected yet")}

	if cfg.Logger != nil {
		s.watchers.add(func(st State) { logState(cfg.Logger, st) })
	}

	o := cfg.Client
	o.DisableCache = true
	o.DisableRetry = true
	o.PipelineMultiplex = -1
	o.Dialer.Timeout = cfg.Timeout
	o.Dialer.KeepAlive = streamKeepAlive
	o.ConnWriteTimeout = streamWriteTimeout
	s.ctx, s.cancel = context.WithCancel(context.Background())
	o.DialCtxFn = dial.Until(s.ctx, cfg.Client)
	opened := context.AfterFunc(ctx, s.cancel)
	client, err := rueidis.NewClient(o)
	if err != nil {
		opened()
		s.cancel()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, err
	}
	s.client = client
	first := make(chan error, 1)
	s.wg.Go(func() { s.run(first) })
	select {
	case err = <-first:
	case <-ctx.Done():
	}
	if opened(); ctx.Err() != nil { // in this order: ctx may end s.ctx no more
		err = ctx.Err()
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Sender returns what tells this process's messages from others'.
func (s *Stream) Sender() Sender { return s.sender }

// Nonces returns the first of n nonces that were never used before.
func (s *Stream) Nonces(n int) uint64 { return s.nonces.Add(uint64(n)) - uint64(n) }

// State returns the present state.
func (s *Stream) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// OnState has fn called with each new state, in order, on a goroutine that may
// block; remove ends that, but for a call that is under way. A slow fn misses the
// oldest of more than 64 states.
func (s *Stream) OnState(fn func(State)) (remove func()) { return s.watchers.add(fn) }

// Rejected returns how many messages were malformed, or of a version that this
// one does not know. Each was taken for "any key may have changed".
func (s *Stream) Rejected() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rejected
}

// Join has the stream drive tier by the channel of the cache name. Where the
// stream is live it waits until the subscription is confirmed, and fails if
// that is refused; where it is cut, it returns at once, and the tier goes live
// with the stream; if its channel is refused then, the whole stream stays cut,
// and State says why. A name drives the tier that joined last, no other.
func (s *Stream) Join(ctx context.Context, name string, tier Tier) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ch := Channel(name)
	s.mu.Lock()
	if s.state.Status == Closed {
		s.mu.Unlock()
		return ErrClosed
	}
	s.topics[ch].cut()
	t := &topic{tier: tier}
	s.topics[ch] = t
	conn := s.conn
	s.mu.Unlock()
	if conn == nil {
		return nil
	}
	// Resume comes from onSubscription, before Do returns.
	err := conn.Do(ctx, conn.B().Subscribe().Channel(ch).Build()).Error()
	if _, refused := rueidis.IsRedisErr(err); refused {
		s.mu.Lock()
		defer s.mu.Unlock()
		t.cut() // a newer connection may have been let
		if s.topics[ch] == t {
			delete(s.topics, ch)
		}
		return err
	}
	return nil // any other error: the connection is gone, and the next one subscribes
}

// ErrClosed is the answer of a closed Stream.
var ErrClosed = errors.New("invalidate: the stream is closed")

// Close ends the stream and waits for its goroutines; every tier is cut. State
// is Closed afterwards. For functions given to OnState it waits at most
// cfg.Timeout. It may be called more than once.
func (s *Stream) Close() {
	s.cancel()
	s.wg.Wait()
	s.client.Close()
	told := make(chan struct{})
	go func() {
		s.watchers.wg.Wait()
		close(told)
	}()
	select {
	case <-told:
	case <-time.After(s.cfg.Timeout):
	}
}

// run keeps one session after the other. It tells first how the first one
// began; if that failed it is the only one.
func (s *Stream) run(first chan<- error) {
	for backoff := minBackoff; ; backoff = min(2*backoff, maxBackoff) {
		began := func(err error) {
			if first != nil {
				first <- err
			}
			if err == nil {
				first, backoff = nil, minBackoff
			}
		}
		conn, _ := s.client.Dedicate()
		err := s.connect(conn, began)
		over := s.ctx.Err() != nil || first != nil
		if over {
			s.end(Closed, nil)
		} else {
			s.end(Cut, err)
		}
		conn.Close() // after the cut: where the peer is silent it takes a second
		if over {
			return
		}
		select {
		case <-s.ctx.Done():
			s.end(Closed, nil)
			return
		case <-time.After(backoff/2 + mrand.N(backoff)):
		}
	}
}

// connect holds one session: it subscribes, tells began how that went, and
// returns when the connection is no good any more, with the cause.
func (s *Stream) connect(conn rueidis.DedicatedClient, began func(error)) error {
	s.mu.Lock()
	s.session++
	id := s.session
	s.mu.Unlock()
	echoed, unsubscribed := make(chan struct{}, 1), make(chan struct{}, 1)
	lost := conn.SetPubSubHooks(rueidis.PubSubHooks{
		OnMessage:      func(m rueidis.PubSubMessage) { s.onMessage(id, m, echoed) },
		OnSubscription: func(e rueidis.PubSubSubscription) { s.onSubscription(id, e, unsubscribed) },
	})
	s.mu.Lock()
	s.conn = conn // a cache that joins from here on subscribes by itself, and the hooks hear its confirmation
	channels := append(slices.Collect(maps.Keys(s.topics)), s.self)
	s.mu.Unlock()
	asked, err := "", s.command(conn, conn.B().Subscribe().Channel(channels...).Build())
	if err != nil {
		err = fmt.Errorf("SUBSCRIBE: %w", err)
	} else {
		asked, err = s.probe(id, 0)
	}
	if err == nil {
		// What comes on the connection behind the confirmations says that all
		// tiers are live, and that it hangs on the server on which we publish.
		select {
		case <-echoed:
		case lostBy := <-lost:
			err = lossOf(lostBy)
		case <-s.ctx.Done():
			err = s.ctx.Err()
		case <-time.After(s.cfg.Timeout):
			err = fmt.Errorf("silent: a message to this process was not heard within %v", s.cfg.Timeout)
		}
	}
	if err == nil {
		s.setState(Live, nil)
	}
	began(err)
	if err != nil {
		return err
	}

	tick := time.NewTicker(s.cfg.probeEvery)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-s.ctx.Done():
			return nil
		case err := <-lost:
			return lossOf(err)
		case <-unsubscribed:
			return errors.New("the server ended a subscription")
		case <-tick.C:
		}
		s.mu.Lock()
		heard := s.echo == asked
		s.mu.Unlock()
		if !heard {
			return fmt.Errorf("silent: a message to this process was not heard within %v", s.cfg.probeEvery)
		}
		asked = probeToken(id, n)
		s.wg.Go(func() { s.probe(id, n) }) // if it fails, it is not heard
	}
}

func lossOf(err error) error {
	if err == nil {
		err = errors.New("closed")
	}
	return fmt.Errorf("connection lost: %w", err)
}

func probeToken(session uint64, n int) string { return fmt.Sprintf("%d.%d", session, n) }

// probe sends a message to this process, by another connection than the one on
// which it should be heard. That one may have died unnoticed, which is no cut:
// hence the second attempt.
func (s *Stream) probe(session uint64, n int) (token string, err error) {
	token = probeToken(session, n)
	for range 2 {
		err = s.command(s.client, s.client.B().Publish().Channel(s.self).Message(token).Build())
		if _, refused := rueidis.IsRedisErr(err); err == nil || refused || errors.Is(err, context.DeadlineExceeded) {
			break
		}
	}
	if err != nil {
		return token, fmt.Errorf("PUBLISH: %w", err)
	}
	return token, nil
}

func (s *Stream) command(c rueidis.CoreClient, cmd rueidis.Completed) error {
	ctx, cancel := context.WithTimeout(s.ctx, s.cfg.Timeout)
	defer cancel()
	return c.Do(ctx, cmd).Error()
}

// onMessage runs on the goroutine that reads the session's connection.
func (s *Stream) onMessage(session uint64, m rueidis.PubSubMessage, echoed chan<- struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if session != s.session {
		return
	}
	if m.Channel == s.self {
		s.echo = m.Message
		select {
		case echoed <- struct{}{}:
		default:
		}
		return
	}
	t := s.topics[m.Channel]
	if t == nil || !t.live {
		return
	}
	msg, err := parse(m.Message)
	switch {
	case err != nil:
		// It may be news from a version to come: dropping all is always safe.
		s.rejected++
		t.tier.DropAll()
	case msg.all:
		t.tier.DropAll()
	default:
		own := msg.from == s.sender
		nonce := msg.nonce
		for rest := msg.keys; rest != ""; nonce++ {
			var key string
			key, rest, _ = cutKey(rest)
			t.tier.Drop(key, nonce, own)
		}
	}
}

// onSubscription runs on the goroutine that reads the session's connection.
func (s *Stream) onSubscription(session uint64, e rueidis.PubSubSubscription, unsubscribed chan<- struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if session != s.session {
		return
	}
	switch t := s.topics[e.Channel]; {
	case e.Kind == "unsubscribe":
		select {
		case unsubscribed <- struct{}{}:
		default:
		}
	case t != nil && !t.live:
		t.live = true
		t.tier.Resume()
	}
}

// end ends the session: whatever its connection still says is void, and every
// tier is cut before anybody is told.
func (s *Stream) end(status Status, cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.session++
	s.conn = nil
	for _, t := range s.topics {
		t.cut()
	}
	s.setStateLocked(status, cause)
}

func (s *Stream) setState(status Status, cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.setStateLocked(status, cause)
}

// REQUIRES: s.mu held.
func (s *Stream) setStateLocked(status Status, cause error) {
	old := s.state
	s.state.Status, s.state.Cause = status, cause
	if status != old.Status {
		s.state.Since = time.Now()
		if old.Status == Live && status == Cut {
			s.state.Cuts++
		}
	} else if errorText(cause) == errorText(old.Cause) {
		return
	}
	s.watchers.tell(s.state)
}

func logState(l *zap.Logger, st State) {
	switch st.Status {
	case Cut:
		l.Warn("invalidation is cut: every read asks Redis until it is back", zap.Error(st.Cause))
	case Live:
		l.Info("invalidation is live", zap.Uint64("cuts", st.Cuts))
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
