package invalidate

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
	"go.uber.org/zap"

	"github.com/flipcache/flipcache/internal/dial"
)

// ErrNoTracking: the server, a proxy before it, or the user's rights do not allow
// CLIENT TRACKING. PubSub does without.
var ErrNoTracking = errors.New("no CLIENT TRACKING here: use invalidate.PubSub, which needs none")

// tracking hears what Redis itself says of the keys that were read: on the one
// connection that carries the reads and writes of the caches, so that commands,
// replies and invalidations are in one order. Every connection is tracked from
// its first command on, and the tiers are cut before it has its first reply.
//
// It is tracking key by key, without NOLOOP: that would hide what Redis evicts
// for a command of our own.
type tracking struct {
	s        *Stream
	client   rueidis.Client
	closeAll context.CancelFunc // of connections
	cluster  *cluster           // nil where the server is none

	mu      sync.Mutex          // guards all below; taken after Stream.mu, if both are
	conns   map[string]*tracked // the one to each address
	heard   []*tracked          // those when the session went live
	masters map[string]bool     // with Sentinel: who was master, all others are sentinels
}

func newTracking(s *Stream) (*tracking, error) {
	t := &tracking{s: s, conns: make(map[string]*tracked), masters: make(map[string]bool)}
	o := s.cfg.Client
	o.DisableCache = false
	o.DisableRetry = true
	o.ClientTrackingOptions = []string{"OPTOUT"}
	o.OnInvalidations = t.onInvalidations
	o.PipelineMultiplex = -1 // one connection
	o.BlockingPipeline = -1  // for long pipelines, too
	o.CacheSizeEachConn = 1  // rueidis' own cache is not used
	o.Dialer.Timeout = s.cfg.Timeout
	o.Dialer.KeepAlive = streamKeepAlive
	o.ConnWriteTimeout = max(streamWriteTimeout, s.cfg.Timeout)
	connections, cancel := context.WithCancel(context.Background())
	t.closeAll = cancel
	opening := context.AfterFunc(s.ctx, cancel)
	defer opening()
	until := dial.Until(connections, s.cfg.Client, s.conns)
	o.DialCtxFn = func(ctx context.Context, addr string, d *net.Dialer, tc *tls.Config) (net.Conn, error) {
		conn, err := until(ctx, addr, d, tc)
		if err != nil {
			return nil, err
		}
		return t.dialed(conn, addr), nil
	}
	dial.Sentinels(&o, s.cfg.Timeout)
	var err error
	if o.Sentinel.MasterSet == "" && len(o.InitAddress) > 1 {
		// rueidis would dial all at once, some of them twice.
		for addr := range dial.Reachable(s.ctx, until, o) {
			o.InitAddress = []string{addr}
			if t.client, err = rueidis.NewClient(o); err == nil {
				break
			}
		}
	}
	if t.client == nil && err == nil {
		t.client, err = rueidis.NewClient(o)
	}
	if err != nil {
		cancel()
	} else if t.client.Mode() == rueidis.ClientModeCluster {
		t.cluster = &cluster{t: t}
	}
	if errors.Is(err, rueidis.ErrNoCache) {
		words, _, _ := strings.Cut(err.Error(), "\n")
		return nil, fmt.Errorf("%w; the server says: %s", ErrNoTracking, words)
	}
	return t, err
}

// dialed takes conn as the connection to addr.
func (t *tracking) dialed(conn net.Conn, addr string) *tracked {
	if old := t.connTo(addr); old != nil {
		// Model: tracklease, the lease renewed on a new connection, then emptied
		// Model: clusterack, a connection is heard that has a successor
		old.end(fmt.Errorf("another to %s had to be made", addr))
		old.Conn.Close() // probes go by one
	}
	c := &tracked{Conn: conn, t: t, addr: addr, dialed: t.s.cfg.now()}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.conns[addr] = c
	if at := t.s.cfg.Dialed; at != nil {
		at.Store(c.dialed)
	}
	return c
}

// tracked is a connection that tells of its end.
type tracked struct {
	net.Conn
	t        *tracking
	addr     string
	dialed   int64       // when it was made, on the clock of internal/clock
	answered atomic.Bool // something came: else nothing was read by it
	once     sync.Once
}

func (c *tracked) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && !c.answered.Load() {
		c.answered.Store(true)
	}
	if err != nil {
		c.end(err)
	}
	return n, err
}

func (c *tracked) Close() error {
	c.end(nil)
	return c.Conn.Close()
}

// end cuts before it forgets the connection: who dials another from then on finds
// the tiers cut.
func (c *tracked) end(cause error) {
	c.once.Do(func() {
		if c.answered.Load() {
			c.t.lost(c.addr, lossOf(cause))
		}
		c.t.mu.Lock()
		defer c.t.mu.Unlock()
		if c.t.conns[c.addr] == c {
			delete(c.t.conns, c.addr)
		}
	})
}

// lost cuts the tiers at once, if they are live and may hold what was read by a
// connection to addr. In a cluster that may be any node: a replica may have been made
// a master since the last probe.
func (t *tracking) lost(addr string, cause error) {
	s := t.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.Status == Live && t.serves(addr) {
		s.failLocked(cause)
		s.endLocked(Cut, cause)
	}
}

// serves says whether who is at addr may have been read from: all but sentinels.
func (t *tracking) serves(addr string) bool {
	if t.s.cfg.Client.Sentinel.MasterSet == "" {
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.masters[addr]
}

func (t *tracking) at() map[string]rueidis.Client { return t.client.Nodes() }

func (t *tracking) commands() rueidis.Client { return t.client }

// close lets commands that are under way end.
func (t *tracking) close() {
	// With Sentinel it waits for a sentinel's answer, if it is asking just then.
	defer time.AfterFunc(t.s.cfg.Timeout, t.closeAll).Stop()
	t.client.Close()
	t.closeAll()
}

// hangUp closes the connection of the session. One that was made since serves
// already.
func (t *tracking) hangUp() {
	if t.cluster != nil {
		t.cluster.hangUp()
		return
	}
	t.mu.Lock()
	heard := t.heard
	t.heard = nil
	t.mu.Unlock()
	for _, conn := range heard {
		if t.serves(conn.addr) {
			conn.Close()
		}
	}
}

// connTo returns the connection to addr, or nil.
func (t *tracking) connTo(addr string) *tracked {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.conns[addr]
}

// closeConn has the next command to addr dial.
func (t *tracking) closeConn(addr string) {
	if conn := t.connTo(addr); conn != nil {
		conn.Close()
	}
}

// open finds out who the masters are. The first command dials.
func (t *tracking) open(uint64) error {
	if t.cluster != nil {
		return t.cluster.open()
	}
	t.mu.Lock()
	for addr := range t.client.Nodes() {
		t.masters[addr] = true
	}
	t.mu.Unlock()
	if t.s.lease.max == 0 {
		return nil
	}
	// Acknowledged writes ask questions.
	return t.listen(t.s.ctx, t.client, "", true, t.s.names()...)
}

func (t *tracking) live() {
	t.mu.Lock()
	t.heard = slices.Collect(maps.Values(t.conns))
	t.mu.Unlock()
	for _, topic := range t.s.topics {
		topic.hears = true
		t.s.resume(topic)
	}
}

// listen has the tracked connection of client hear the questions to the caches of
// these names, and, if self is set, the answers to this process, until it is lost, or
// ctx ends; it returns when it does. What is heard there comes behind the invalidations
// of before. In a cluster home is the master's, else empty. Where Redis refuses,
// acknowledged writes wait for this process' lease, and that is all.
func (t *tracking) listen(ctx context.Context, client rueidis.Client, home string, self bool, names ...string) error {
	var channels []string
	if self {
		channels = append(channels, answerChannel(home, t.s.sender))
	}
	for _, name := range names {
		channels = append(channels, askChannel(home, name))
	}
	heard := make(chan struct{}, len(channels))
	ended := make(chan error, 1)
	ctx = rueidis.WithOnSubscriptionHook(ctx, func(rueidis.PubSubSubscription) {
		select {
		case heard <- struct{}{}:
		default:
		}
	})
	t.s.wg.Go(func() {
		ended <- client.Receive(ctx, client.B().Subscribe().Channel(channels...).Build(), t.hearsAt(client, home))
	})
	over := time.NewTimer(t.s.cfg.Timeout)
	defer over.Stop()
	for range channels {
		select {
		case <-heard:
		case err := <-ended:
			if refused(err) && t.s.cfg.Logger != nil {
				t.s.cfg.Logger.Warn("questions of acknowledged writes are not heard: each will wait for this process' lease", zap.Error(err))
			}
			if refused(err) {
				return nil
			}
			return fmt.Errorf("SUBSCRIBE: %w", lossOf(err))
		case <-over.C:
			return fmt.Errorf("SUBSCRIBE: no answer within %v", t.s.cfg.Timeout)
		}
	}
	return nil
}

// hearsAt returns what runs behind the invalidations that came before a message, by a
// connection of client.
func (t *tracking) hearsAt(client rueidis.Client, home string) func(m rueidis.PubSubMessage) {
	return func(m rueidis.PubSubMessage) {
		msg, err := parse(m.Message)
		switch {
		case err != nil:
		case msg.kind == kindAnswer:
			t.s.hearAnswer(msg.from, msg.nonce)
		case msg.kind == kindAsk:
			t.s.hearQuestion(msg.from, msg.nonce, client, answerChannel(home, msg.from))
		}
	}
}

func (t *tracking) join(_ context.Context, name string, topic *topic) error {
	t.s.mu.Lock()
	id, live := t.s.session, t.s.state.Status == Live
	t.s.mu.Unlock()
	if !live {
		return nil
	}
	if t.s.lease.max > 0 {
		var err error
		if t.cluster != nil {
			err = t.cluster.listen(name)
		} else {
			err = t.listen(t.s.ctx, t.client, "", false, name)
		}
		if err != nil {
			t.s.fail(id, err) // the connection may be there still, and slow: the next session subscribes
			return nil
		}
	}
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	if t.s.state.Status == Live {
		topic.hears = true
		t.s.resume(topic)
	}
	return nil
}

func (t *tracking) probe(id uint64, token string) (err error) {
	if t.cluster != nil {
		err = t.cluster.probe()
	} else {
		err = t.probeOne()
	}
	if err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	t.probed(id, token)
	return nil
}

// probed tells that a probe was replied to: behind all invalidations of before it.
func (t *tracking) probed(id uint64, token string) {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	if id == t.s.session {
		t.s.answered(token)
	}
}

// probeOne has the one master write.
func (t *tracking) probeOne() error {
	var conns []*tracked
	for addr := range t.client.Nodes() {
		conns = append(conns, t.connTo(addr))
	}
	done, err := t.s.register("", "")
	if err == nil && !done {
		err = t.ping()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		for _, conn := range conns {
			if conn != nil {
				conn.Close() // the next probe dials
			}
		}
	}
	return err
}

// ping asks for an answer, where it needs not be a write.
func (t *tracking) ping() error {
	ctx, cancel := context.WithTimeout(t.s.ctx, t.s.cfg.Timeout)
	defer cancel()
	return t.client.Do(ctx, t.client.B().Ping().Build()).Error()
}

// onInvalidations runs on the goroutine that reads the connection, before it
// hands over what comes behind.
func (t *tracking) onInvalidations(keys []rueidis.RedisMessage) {
	s := t.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if keys == nil { // a flush, or the end of the connection, which is told behind its cut
		// Model: tracking, a flush is ignored
		for _, topic := range s.topics {
			if topic.live {
				topic.tier.DropAll()
			}
		}
		return
	}
	for _, m := range keys {
		if key, err := m.ToString(); err == nil {
			s.push(key)
		}
	}
}

// push tells the tier of the cache whose key this is: the names of a Store's
// caches are such that there is at most one.
//
// REQUIRES: s.mu held.
func (s *Stream) push(key string) {
	for i := 0; i <= s.longest; i++ {
		colon := strings.IndexByte(key[i:], ':')
		if colon < 0 {
			return
		}
		if i += colon; i > s.longest {
			return
		}
		if t := s.topics[key[:i]]; t != nil {
			t.tier.Push(key[i+1:])
			return
		}
	}
}
