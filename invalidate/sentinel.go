package invalidate

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/internal/dial"
)

// errSwitched: a sentinel names another master than the one that is listened to. It
// is a cut.
var errSwitched = errors.New("the sentinels name another master")

// quiet is for how long a sentinel has not answered when it is left: one that is only
// slower than the others is not.
const quiet = 250 * time.Millisecond

// sentinels are asked with each probe who the master is: all that answer have to
// name the one that is listened to, and most of them have to answer. A sentinel tells
// of a switch once, and each when it hears of it, up to 2 s after the first; the old
// master takes writes for up to 10 s more. Who asks them all, after it noted the time
// and before it asks the master, knows of every switch that was known to any writer
// at that time.
type sentinels struct {
	set     string
	options rueidis.ClientOption // for one of them
	addrs   []string
	enough  time.Duration // how long the last few are waited for
	leave   func(addr string)
	wg      sync.WaitGroup

	mu      sync.Mutex // guards all below
	clients map[string]rueidis.Client
	waiting map[string]time.Time // by address: since when it owes an answer
	reached map[string]string    // by address: where that led to, which a name does not say
	closed  bool
}

// newSentinels returns what asks them. leave is called with the addresses of who is
// silent, and has what listens to it turn to another.
func newSentinels(ctx context.Context, c Config, enough time.Duration, leave func(addr string)) *sentinels {
	o := c.Client
	dial.Sentinels(&o, c.Timeout)
	q := &sentinels{
		set: o.Sentinel.MasterSet, addrs: o.InitAddress, enough: enough, leave: leave, clients: make(map[string]rueidis.Client),
		waiting: make(map[string]time.Time), reached: make(map[string]string),
	}
	// As rueidis greets them, but for what is only of use with a master.
	o.Username, o.Password, o.ClientName = o.Sentinel.Username, o.Sentinel.Password, o.Sentinel.ClientName
	o.Dialer, o.TLSConfig, o.SelectDB = o.Sentinel.Dialer, o.Sentinel.TLSConfig, 0
	o.DialCtxFn = dial.Until(ctx, c.Client, nil)
	o.Sentinel = rueidis.SentinelOption{}
	o.ForceSingleClient, o.DisableCache, o.DisableRetry = true, true, true
	o.PipelineMultiplex, o.OnInvalidations = -1, nil
	q.options = o
	return q
}

// client returns a client of one of them that is to be asked, or nil after close.
func (q *sentinels) client(addr string) rueidis.Client {
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, ok := q.waiting[addr]; !ok {
		q.waiting[addr] = time.Now()
	}
	if c := q.clients[addr]; c != nil || q.closed {
		return c
	}
	o := q.options
	o.InitAddress = []string{addr}
	first := true
	was := o.DialCtxFn
	// rueidis dials at once, and waits: this dial is left to the first command.
	o.DialCtxFn = func(ctx context.Context, addr string, d *net.Dialer, t *tls.Config) (net.Conn, error) {
		if first {
			first = false
			return nil, errors.New("not yet")
		}
		conn, err := was(ctx, addr, d, t)
		if err == nil {
			q.mu.Lock()
			q.reached[addr] = conn.RemoteAddr().String()
			q.mu.Unlock()
		}
		return conn, err
	}
	c, _ := rueidis.NewClient(o)
	q.clients[addr] = c
	return c
}

// confirm asks whether the master is in all of led. Who is silent is left where that
// is known from the others: most name the master, or one another.
func (q *sentinels) confirm(ctx context.Context, led []map[string]rueidis.Client) error {
	err := q.ask(ctx, led)
	if err == nil || errors.Is(err, errSwitched) {
		q.leaveSilent()
	}
	return err
}

// answered notes that one of them is not silent.
func (q *sentinels) answered(addr string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.waiting, addr)
}

// leaveSilent leaves who has not answered for long, by all names that it may have been
// dialled by: rueidis goes by those that the sentinels tell.
func (q *sentinels) leaveSilent() {
	q.mu.Lock()
	var silent []string
	for addr, since := range q.waiting {
		if time.Since(since) >= quiet {
			silent = append(silent, addr)
			if at, ok := q.reached[addr]; ok {
				silent = append(silent, at)
			}
		}
	}
	q.mu.Unlock()
	for _, addr := range silent {
		q.leave(addr)
	}
}

// ask is confirm, and leaves nobody.
func (q *sentinels) ask(ctx context.Context, led []map[string]rueidis.Client) error {
	asking, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer time.AfterFunc(quiet, cancel) // who answers until then is not silent
	type answer struct {
		addr string
		err  error
	}
	answers := make(chan answer, len(q.addrs))
	for _, addr := range q.addrs {
		c := q.client(addr)
		if c == nil {
			return ErrClosed
		}
		q.wg.Go(func() {
			at, err := c.Do(asking, c.B().SentinelGetMasterAddrByName().Master(q.set).Build()).AsStrSlice()
			if err == nil || refused(err) {
				q.answered(addr)
			}
			if err == nil && len(at) != 2 {
				err = fmt.Errorf("it names no master: %q", at)
			}
			if err != nil {
				answers <- answer{err: fmt.Errorf("the sentinel at %s: %w", addr, err)}
				return
			}
			answers <- answer{addr: net.JoinHostPort(at[0], at[1])}
		})
	}
	var late <-chan time.Time
	confirmed := 0
	var failed error
	for range q.addrs {
		select {
		case a := <-answers:
			if a.err != nil {
				failed = a.err
				break
			}
			for _, masters := range led {
				if _, ok := masters[a.addr]; !ok {
					return fmt.Errorf("%w: %s", errSwitched, a.addr)
				}
			}
			confirmed++
		case <-ctx.Done():
			return ctx.Err()
		case <-late:
			return nil
		}
		if confirmed > len(q.addrs)/2 && late == nil {
			late = time.After(q.enough)
		}
	}
	if late == nil {
		return fmt.Errorf("%d of %d sentinels name the master; %w", confirmed, len(q.addrs), failed)
	}
	return nil
}

// isOne says whether one of them is known to be at addr.
func (q *sentinels) isOne(addr string) bool {
	if slices.Contains(q.addrs, addr) {
		return true
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, at := range q.reached {
		if at == addr {
			return true
		}
	}
	return false
}

// Dialing is called before the client of Config.Data makes a connection to addr. If
// that is another master than the one that is listened to, it is a cut: what is read
// there may be older, or newer, than what is heard here.
func (s *Stream) Dialing(addr string) {
	if s.watch == nil || s.watch.isOne(addr) {
		return
	}
	at := s.ear.at()
	if _, ok := at[addr]; ok {
		return
	}
	err := fmt.Errorf("%w, or did: %s", errSwitched, addr)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failLocked(err)
	if s.state.Status == Live {
		s.endLocked(Cut, err)
	}
}

func (q *sentinels) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	for _, c := range q.clients { // there will be no more of them
		c.Close()
	}
	q.wg.Wait()
}
