package invalidate

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	mrand "math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
	"go.uber.org/zap"

	"github.com/flipcache/flipcache/internal/clock"
	"github.com/flipcache/flipcache/internal/dial"
)

// A Tier is what the stream drives: the local tier of one cache. Its methods
// are called in the stream's order, one at a time, and must neither wait for
// Redis nor run a user's code. Between Cut and Resume it may hear of some changes,
// never of all.
type Tier interface {
	// Drop tells that key was changed by the write with this nonce. own says
	// that the write was this process's. PubSub only.
	Drop(key string, nonce uint64, own bool)
	// Push tells that Redis changed key, by whosever hand. Tracking only.
	Push(key string)
	// DropAll tells that any key may have changed.
	DropAll()
	// Cut tells that messages may be lost from here on.
	Cut()
	// Resume tells that every message published from here on will be heard.
	Resume()
}

// Config is what a Stream needs.
type Config struct {
	// Mode says how the stream hears: PubSub or Tracking. The zero value is
	// PubSub: a stream is never Off.
	Mode Mode
	// Client says where Redis is. The stream makes a client of its own from
	// it. In PubSub it carries no writes (before Redis 7.2 a message inside
	// EXEC's reply breaks the protocol); in Tracking it is that of Tracked.
	Client rueidis.ClientOption
	// Timeout bounds dialling and each command of the stream. Required.
	Timeout time.Duration
	// MaxStaleness is how long an answered probe lets the tiers serve: see
	// Lease. 0: no lease.
	MaxStaleness time.Duration
	// Lease is where the stream keeps until when the local tiers may serve, on
	// the clock of internal/clock. Required with MaxStaleness. A read loads it,
	// then its entry, then the exact clock: in any other order a process that is
	// stopped in between could serve what it must not.
	Lease *atomic.Int64
	// Data is the client that carries the reads and writes of the caches in PubSub,
	// where it is another one than the stream's: with Sentinel, tiers serve only as
	// long as both are led to the same master. Whoever makes it calls Dialing.
	Data rueidis.Client
	// Leave closes the connections of the process' other clients to a sentinel, and
	// waits for nothing: it was silent, while others answered. nil: there is none.
	Leave func(addr string)
	// Announces says that this process announces its writes. It is told to
	// others, and has no effect here.
	Announces bool
	// Dialed is when the newest connection was made that carries writes, on the
	// clock of internal/clock. In Tracking the stream sets it, in PubSub whoever
	// makes those connections. nil: Confirm takes each for one of just now.
	Dialed *atomic.Int64
	// Logger gets a line a cut and a line a resume. nil: silent.
	Logger *zap.Logger

	probeEvery time.Duration // tests shorten it
	now        func() int64  // the clock of internal/clock, unless a test has its own
}

// A Stream is one process's ear for the writes of all: one connection for all
// its caches. Safe for concurrent use.
type Stream struct {
	cfg      Config
	ear      ear
	watch    *sentinels  // nil without Sentinel
	conns    *dial.Conns // the ear's; nil without Sentinel
	sender   Sender
	nonces   atomic.Uint64
	lease    lease
	patience int // how many probes may be unanswered
	acks     acks
	unlisted atomic.Bool // Redis refuses to have it listed, and it needs not be

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	// mu makes one ordered stream of messages, cuts and resumes: it is held
	// while tiers are told. Taken before any lock of a tier. Guards all below.
	mu       sync.Mutex
	session  uint64            // of the newest connection; what others still say is void
	proved   bool              // its first probe was answered
	topics   map[string]*topic // by name of the cache
	longest  int               // name among the topics
	state    State
	probes   map[string]int64 // when each probe was sent that may still be answered
	asked    int              // regular probes since the last answer
	answer   chan struct{}    // a probe of this session was answered
	failed   chan error       // why this session is no good any more
	echo     string           // the last probe that was answered
	rejected uint64
	watchers watchers
}

// An ear is the part of a Stream that is PubSub's or Tracking's. It tells the
// stream what it hears, by its methods for that.
type ear interface {
	// open begins a session. Nothing of an earlier one may be heard after it.
	open(id uint64) error
	// live is called with the first answer to a probe, Stream.mu held: tiers
	// which that proves to hear may resume.
	live()
	// join has t hear, now if the stream is live, else with the session to come.
	join(ctx context.Context, name string, t *topic) error
	// probe has Redis answer token by the way that invalidations come, where
	// answered is called. It is bounded by the stream's Timeout.
	probe(id uint64, token string) error
	// at returns the addresses of whom is listened to.
	at() map[string]rueidis.Client
	// commands returns a client for what is neither listened for nor tracked.
	commands() rueidis.Client
	// hangUp closes the session's connection.
	hangUp()
	// close ends everything, after the last session.
	close()
}

// Guarded by Stream.mu.
type topic struct {
	tier   Tier
	hears  bool // what is said from now on, in this session
	member bool // the process stands in the cache's list
	live   bool // both, and the session is proved: its tier was resumed
}

// REQUIRES: Stream.mu held.
func (t *topic) cut() {
	if t == nil {
		return
	}
	if t.live {
		t.tier.Cut()
	}
	t.hears, t.live = false, false
}

// REQUIRES: s.mu held.
func (s *Stream) resume(t *topic) {
	if s.proved && t.hears && t.member && !t.live {
		t.live = true
		t.tier.Resume()
	}
}

const (
	defaultProbeEvery = 5 * time.Second
	// A dead link is noticed after at most twice the first and the second.
	streamKeepAlive    = time.Second
	streamWriteTimeout = 2 * time.Second
	// silence is how long probes may be unanswered under a lease, which ends
	// sooner: a process that was stopped has that long to catch up.
	silence = 2 * time.Second

	minBackoff = 10 * time.Millisecond
	maxBackoff = 2 * time.Second
	// maxBackoffOfMany is maxBackoff where another server takes a dead one's place.
	maxBackoffOfMany = 500 * time.Millisecond
)

// Open connects, and returns when a probe was answered: Redis lets this user
// listen and speak, and what happens there is heard. ctx bounds the attempt,
// and each step of it is bounded by cfg.Timeout.
func Open(ctx context.Context, cfg Config) (*Stream, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if cfg.Mode == Off {
		cfg.Mode = PubSub
	}
	s := newStream(cfg)
	if cfg.Logger != nil {
		s.watchers.add(func(st State) { logState(cfg.Logger, st) })
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	opened := context.AfterFunc(ctx, s.cancel)
	if cfg.Client.Sentinel.MasterSet != "" {
		s.conns = new(dial.Conns)
		s.watch = newSentinels(s.ctx, cfg, s.cfg.probeEvery/4, func(addr string) {
			s.conns.Leave(addr)
			if cfg.Leave != nil {
				cfg.Leave(addr)
			}
		})
	}
	var err error
	if cfg.Mode == Tracking {
		s.ear, err = newTracking(s)
	} else {
		s.ear, err = newPubSub(s)
	}
	if err != nil {
		opened()
		s.cancel()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, err
	}
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

// newStream returns a stream that is cut, and does nothing yet.
func newStream(cfg Config) *Stream {
	s := &Stream{cfg: cfg, topics: make(map[string]*topic), patience: 1}
	s.acks.open, s.acks.owed = make(map[uint64]*question), make(chan answer, maxOwed)
	if s.cfg.now == nil {
		s.cfg.now = clock.Now
	}
	if s.lease = (lease{cfg.MaxStaleness, cfg.Lease}); s.lease.max > 0 {
		s.cfg.probeEvery = s.lease.max / 3
		s.patience = int(silence/s.cfg.probeEvery) + 1
	} else if cfg.probeEvery == 0 {
		s.cfg.probeEvery = defaultProbeEvery
	}
	rand.Read(s.sender[:]) // never fails
	s.nonces.Store(1)      // 0 means: no nonce
	s.state = State{Status: Cut, Since: time.Now(), Cause: errors.New("not connected yet")}
	return s
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

// Watch is OnState that begins with the present state.
func (s *Stream) Watch(fn func(State)) (remove func()) {
	s.mu.Lock() // or a state could come twice, or never
	defer s.mu.Unlock()
	return s.watchers.addTold(fn, s.state)
}

// Rejected returns how many messages were malformed, or of a version that this
// one does not know. Each was taken for "any key may have changed".
func (s *Stream) Rejected() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rejected
}

// Tracked returns the client whose reads Redis tracks: in Tracking all reads and
// writes of keys that a tier holds have to go by it, so that they, their
// replies and the invalidations are in one order. In PubSub it is nil.
func (s *Stream) Tracked() rueidis.Client {
	if t, ok := s.ear.(*tracking); ok {
		return t.client
	}
	return nil
}

// Join has the stream drive tier, as that of the cache name. Where the stream
// is live it waits until the cache's changes are heard, and fails if Redis
// refuses; where it is cut, it returns at once, and the tier goes live with the
// stream; if it is refused then, the whole stream stays cut, and State says
// why. A name drives the tier that joined last, no other.
func (s *Stream) Join(ctx context.Context, name string, tier Tier) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	if s.state.Status == Closed {
		s.mu.Unlock()
		return ErrClosed
	}
	s.topics[name].cut()
	t := &topic{tier: tier}
	s.topics[name] = t
	s.longest = max(s.longest, len(name))
	id, live := s.session, s.state.Status == Live
	s.mu.Unlock()
	err := s.ear.join(ctx, name, t)
	if err == nil && live { // else the session that begins has it listed
		if _, err = s.register("", ""); err != nil && !refused(err) {
			s.fail(id, err)
			return nil
		}
	}
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		t.cut() // a newer connection may have been let
		if s.topics[name] == t {
			delete(s.topics, name)
		}
	}
	return err
}

// ErrClosed is the answer of a closed Stream.
var ErrClosed = errors.New("invalidate: the stream is closed")

// Close ends the stream and waits for its goroutines; every tier is cut. State
// is Closed afterwards. For functions given to OnState it waits at most
// cfg.Timeout. It may be called more than once.
func (s *Stream) Close() {
	s.mu.Lock()
	live := s.state.Status == Live
	s.endLocked(Closed, nil)
	s.mu.Unlock()
	if live {
		s.leave()
	}
	s.cancel()
	s.wg.Wait()
	s.ear.close()
	if s.watch != nil {
		s.watch.close()
	}
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
	longest := maxBackoff
	if s.ear.commands().Mode() != rueidis.ClientModeStandalone {
		longest = maxBackoffOfMany
	}
	for backoff := minBackoff; ; backoff = min(2*backoff, longest) {
		began := func(err error) {
			if first != nil {
				first <- err
			}
			if err == nil {
				first, backoff = nil, minBackoff
			}
		}
		err := s.hold(began)
		over := s.ctx.Err() != nil || first != nil
		if over {
			s.end(Closed, nil)
		} else {
			s.end(Cut, err)
		}
		if over {
			return
		}
		s.ear.hangUp() // after the cut: where the peer is silent it takes a second
		select {
		case <-s.ctx.Done():
			s.end(Closed, nil)
			return
		case <-time.After(backoff/2 + mrand.N(backoff)):
		}
	}
}

// hold holds one session: it tells began how that began, and returns when it is
// no good any more, with the cause.
func (s *Stream) hold(began func(error)) error {
	id, answer, failed := s.begin()
	err := s.ear.open(id)
	if err == nil {
		err = s.ask(id)
	}
	if err == nil {
		// The first answer says that the tiers which are live hear, and that
		// the connection hangs on the server to which we write.
		select {
		case <-answer:
		case err = <-failed:
		case <-s.ctx.Done():
			err = s.ctx.Err()
		case <-time.After(s.cfg.Timeout):
			err = fmt.Errorf("silent: a message to this process was not heard within %v", s.cfg.Timeout)
		}
	}
	if err == nil {
		s.setLive(id)
	}
	began(err)
	if err != nil {
		return err
	}

	tick := time.NewTicker(s.cfg.probeEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return nil
		case err := <-failed:
			return err
		case <-tick.C:
		}
		if err := s.tick(); err != nil {
			return err
		}
		s.wg.Go(func() {
			if err := s.ask(id); refused(err) || errors.Is(err, errMoved) || errors.Is(err, errSwitched) { // any other error: it is not heard
				s.fail(id, err)
			}
		})
	}
}

// begin begins a session: what those of before still say is void.
func (s *Stream) begin() (id uint64, answer <-chan struct{}, failed <-chan error) {
	answered, broken := make(chan struct{}, 1), make(chan error, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.session++
	s.probes, s.asked = make(map[string]int64), 0
	s.answer, s.failed = answered, broken
	s.unlisted.Store(false) // another server may let it
	return s.session, answered, broken
}

// tick counts a regular probe, which is about to be sent, and fails where too many
// of before have no answer.
func (s *Stream) tick() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked >= s.patience {
		return fmt.Errorf("silent: a message to this process was not heard within %v", time.Duration(s.asked)*s.cfg.probeEvery)
	}
	s.asked++
	return nil
}

// fail ends the session id soon.
func (s *Stream) fail(id uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id == s.session {
		s.failLocked(err)
	}
}

// REQUIRES: s.mu held.
func (s *Stream) failLocked(err error) {
	select {
	case s.failed <- err:
	default:
	}
}

// refused says whether err is Redis' own word.
func refused(err error) bool {
	re := (*rueidis.RedisError)(nil)
	return errors.As(err, &re)
}

// forgives says whether err, of a write of a probe, may count as an answer: without
// a lease a probe need not be a write, only come from a master.
func (s *Stream) forgives(err error) bool {
	if s.lease.max > 0 || !refused(err) {
		return false
	}
	for _, other := range []string{"READONLY", "MOVED", "CLUSTERDOWN", "MASTERDOWN", "LOADING"} {
		if strings.Contains(err.Error(), other) {
			return false
		}
	}
	return true
}

func lossOf(err error) error {
	if err == nil {
		err = errors.New("closed")
	}
	return fmt.Errorf("connection lost: %w", err)
}

// Ask sends a probe now, beside those that go out by themselves.
func (s *Stream) Ask() error {
	s.mu.Lock()
	id := s.session
	s.mu.Unlock()
	return s.ask(id)
}

// ask sends a probe. Its answer may come later than ask returns.
func (s *Stream) ask(id uint64) error {
	token := rand.Text()
	s.note(id, token)
	if s.watch != nil {
		ctx, cancel := context.WithTimeout(s.ctx, s.cfg.Timeout)
		defer cancel()
		if err := s.watch.confirm(ctx, s.led()); errors.Is(err, errSwitched) || err != nil && s.lease.max > 0 {
			return fmt.Errorf("probe: %w", err)
		}
	}
	return s.ear.probe(id, token)
}

// note notes a probe that is about to be sent.
func (s *Stream) note(id uint64, token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id == s.session {
		// Model: lease, the lease counts from the arrival of the echo
		s.probes[token] = s.cfg.now() // before it is sent
	}
}

// led returns where all that this process asks and hears is led to.
func (s *Stream) led() (all []map[string]rueidis.Client) {
	all = append(all, s.ear.at())
	if s.cfg.Data != nil {
		all = append(all, s.cfg.Data.Nodes())
	}
	return all
}

// answered is called where invalidations are heard, in their order: all that
// happened before Redis took the probe was told to the tiers.
//
// REQUIRES: s.mu held.
func (s *Stream) answered(token string) {
	sent, ok := s.probes[token]
	if !ok {
		return // of another session, or nobody's
	}
	maps.DeleteFunc(s.probes, func(_ string, at int64) bool { return at <= sent })
	s.asked, s.echo = 0, token
	s.lease.grant(sent) // Model: lease, the probe's reply on a command connection grants
	select {
	case s.answer <- struct{}{}:
	default:
	}
}

// end ends the session: whatever its connection still says is void, and every
// tier is cut before anybody is told.
func (s *Stream) end(status Status, cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endLocked(status, cause)
}

// REQUIRES: s.mu held.
func (s *Stream) endLocked(status Status, cause error) {
	s.session++
	s.proved = false
	for _, t := range s.topics {
		t.cut()
	}
	s.setStateLocked(status, cause)
}

func (s *Stream) setLive(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id == s.session && s.state.Status != Closed {
		s.proved = true
		s.ear.live()
		s.setStateLocked(Live, nil)
	}
}

// REQUIRES: s.mu held.
func (s *Stream) setStateLocked(status Status, cause error) {
	old := s.state
	if old.Status == Closed { // for good: a session may go on until Close ends it
		return
	}
	s.state.Status, s.state.Cause = status, cause
	if status != old.Status {
		s.state.Since = time.Now()
		if old.Status == Live && status == Cut {
			s.state.Cuts++
			s.state.LastCut, s.state.LastCause = s.state.Since, cause
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
