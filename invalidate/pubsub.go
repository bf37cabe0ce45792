package invalidate

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/internal/dial"
)

const (
	channelPrefix = "flipcache:inv:"
	selfPrefix    = "flipcache:self:"
)

// selfChannel is where a process hears its own probes, and answers to it.
func selfChannel(s Sender) string { return selfPrefix + s.String() }

// Channel returns the channel on which writes of the cache with this name are
// announced.
func Channel(name string) string { return channelPrefix + name }

// pubsub hears what others announce: on one connection that only subscribes,
// one channel for each cache, and one of this process for its probes. A tier goes
// live when its channel is confirmed and the session's first probe was answered.
type pubsub struct {
	s      *Stream
	client rueidis.Client
	self   string

	// Of the session, both guarded by s.mu.
	conn  rueidis.DedicatedClient // or nil
	nodes map[string]rueidis.Client
}

func newPubSub(s *Stream) (*pubsub, error) {
	p := &pubsub{s: s, self: selfChannel(s.sender)}
	o := s.cfg.Client
	o.DisableCache = true
	o.DisableRetry = true
	o.PipelineMultiplex = -1
	o.Dialer.Timeout = s.cfg.Timeout
	o.Dialer.KeepAlive = streamKeepAlive
	o.ConnWriteTimeout = streamWriteTimeout
	o.DialCtxFn = dial.Until(s.ctx, s.cfg.Client, s.conns)
	dial.Sentinels(&o, s.cfg.Timeout)
	var err error
	p.client, err = rueidis.NewClient(o)
	return p, err
}

func (p *pubsub) at() map[string]rueidis.Client {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	return p.nodes
}

func (p *pubsub) commands() rueidis.Client { return p.client }

func (p *pubsub) close() {
	p.hangUp()
	p.client.Close()
}

func (p *pubsub) hangUp() {
	p.s.mu.Lock()
	conn := p.conn
	p.conn = nil
	p.s.mu.Unlock()
	if conn != nil {
		conn.Close()
	}
}

func (p *pubsub) open(id uint64) error {
	nodes := p.client.Nodes() // before: if the master changes in between, no sentinel names the one of nodes
	conn, _ := p.client.Dedicate()
	lost := conn.SetPubSubHooks(rueidis.PubSubHooks{
		OnMessage:      func(m rueidis.PubSubMessage) { p.onMessage(id, m) },
		OnSubscription: func(e rueidis.PubSubSubscription) { p.onSubscription(id, e) },
	})
	p.s.wg.Go(func() { p.s.fail(id, lossOf(<-lost)) })
	p.s.mu.Lock()
	p.nodes = nodes
	p.conn = conn // a cache that joins from here on subscribes by itself, and the hooks hear its confirmation
	channels := []string{p.self}
	for name := range p.s.topics {
		channels = append(channels, Channel(name))
	}
	p.s.mu.Unlock()
	if p.client.Mode() == rueidis.ClientModeCluster { // has conn be one to a master; to another one the next time
		key := fmt.Sprintf("%s{%v %d}", processPrefix, p.s.sender, id)
		if err := p.command(conn, conn.B().Exists().Key(key).Build()).Error(); err != nil && !refused(err) {
			return fmt.Errorf("EXISTS: %w", err)
		}
	}
	if err := p.command(conn, conn.B().Subscribe().Channel(channels...).Build()).Error(); err != nil {
		return fmt.Errorf("SUBSCRIBE: %w", err)
	}
	return nil
}

func (p *pubsub) command(c rueidis.CoreClient, cmd rueidis.Completed) rueidis.RedisResult {
	ctx, cancel := context.WithTimeout(p.s.ctx, p.s.cfg.Timeout)
	defer cancel()
	return c.Do(ctx, cmd)
}

func (p *pubsub) live() {
	for _, t := range p.s.topics {
		p.s.resume(t)
	}
}

func (p *pubsub) join(ctx context.Context, name string, _ *topic) error {
	p.s.mu.Lock()
	conn := p.conn
	p.s.mu.Unlock()
	if conn == nil {
		return nil
	}
	// onSubscription hears of it before Do returns.
	err := conn.Do(ctx, conn.B().Subscribe().Channel(Channel(name)).Build()).Error()
	if refused(err) {
		return err
	}
	return nil // any other error: the connection is gone, and the next one subscribes
}

// probe sends a message to this process, by another connection than the one on
// which it should be heard. That one may have died unnoticed, which is no cut:
// hence the second attempt.
func (p *pubsub) probe(_ uint64, token string) (err error) {
	for range 2 {
		var done bool
		if done, err = p.s.register(p.self, token); err == nil && !done {
			err = p.publish(token)
		}
		if err == nil || refused(err) || errors.Is(err, context.DeadlineExceeded) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("PUBLISH: %w", err)
	}
	return nil
}

// publish says token to this process: in a cluster by a master, which EXISTS brings
// it to.
func (p *pubsub) publish(token string) error {
	ctx, cancel := context.WithTimeout(p.s.ctx, p.s.cfg.Timeout)
	defer cancel()
	b := p.client.B()
	publish := b.Publish().Channel(p.self).Message(token).Build()
	if p.client.Mode() != rueidis.ClientModeCluster {
		return p.client.Do(ctx, publish).Error()
	}
	return p.client.DoMulti(ctx, b.Exists().Key(processPrefix+"{"+token+"}").Build(), publish)[1].Error()
}

// topic returns the topic of a channel, or nil.
//
// REQUIRES: Stream.mu held.
func (p *pubsub) topic(channel string) *topic {
	if name, ok := strings.CutPrefix(channel, channelPrefix); ok {
		return p.s.topics[name]
	}
	return nil
}

// onMessage runs on the goroutine that reads the session's connection.
func (p *pubsub) onMessage(session uint64, m rueidis.PubSubMessage) {
	s := p.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if session != s.session {
		return
	}
	if m.Channel == p.self {
		if a, err := parse(m.Message); err == nil && a.kind == kindAnswer {
			s.hearAnswer(a.from, a.nonce)
		} else {
			s.answered(m.Message)
		}
		return
	}
	t := p.topic(m.Channel)
	if t == nil || !t.hears {
		return
	}
	msg, err := parse(m.Message)
	switch {
	case err != nil || msg.kind == kindAnswer: // which has no business here
		// It may be news from a version to come: dropping all is always safe.
		s.rejected++
		t.tier.DropAll()
	case msg.kind == kindAsk:
		s.hearQuestion(msg.from, msg.nonce, p.client, selfChannel(msg.from))
	case msg.kind == kindAll:
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
func (p *pubsub) onSubscription(session uint64, e rueidis.PubSubSubscription) {
	s := p.s
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case session != s.session:
	case e.Kind == "unsubscribe":
		s.failLocked(errors.New("the server ended a subscription"))
	default:
		if t := p.topic(e.Channel); t != nil {
			t.hears = true // Model: pubsub, cut: live before the subscription is confirmed
			s.resume(t)
		}
	}
}
