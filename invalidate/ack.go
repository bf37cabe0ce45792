package invalidate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
)

// An acknowledged write is a write and then a question, to all who listen to its
// cache, whether they have heard what came before it. The question travels the
// way of the invalidations, so who has heard it has dropped what the write
// replaced; each answers with a message to the writer, which names the question.
// Who does not answer is waited for until its lease is over: after that it serves
// nothing that it has not asked for anew. Who listens stands in the cache's list of
// members, in which each puts itself before its tier serves, and again with each
// renewal of its lease, in one step.

// askPrefix and the cache's name are the channel of questions to those in Tracking,
// who hear it on their tracked connection. Those in PubSub are asked on the cache's
// own channel.
const askPrefix = "flipcache:ask:"

// drift is how much a member's clock may be slower than this one's while a lease
// runs: one part in so many.
const drift = 100

// Unconfirmed is the error of a wait for confirmations that did not end well. The
// write stands.
type Unconfirmed struct {
	Members []Member // who may still return an older value
	Err     error    // why the wait is over
}

func (e *Unconfirmed) Error() string {
	where := make([]string, len(e.Members))
	for i, m := range e.Members {
		where[i] = m.Where + " (" + m.Mode.String() + ")"
	}
	if len(where) == 0 {
		return fmt.Sprintf("the write stands, and it is not known who has heard of it: %v", e.Err)
	}
	return fmt.Sprintf("the write stands, and %s may not have heard of it: %v", strings.Join(where, ", "), e.Err)
}

func (e *Unconfirmed) Unwrap() error { return e.Err }

var (
	errNoLease = errors.New("a process without a lease cannot be waited for: set MaxStaleness in every process of the cache")
	errUnheard = errors.New("a process in PubSub does not hear writes that are not announced: set Announce where Invalidation is Tracking")
)

// acks are the questions of this process that wait for answers, and the answers
// that it owes to others.
type acks struct {
	mu   sync.Mutex // guards open; taken after Stream.mu, if both are
	open map[uint64]*question

	lost  atomic.Int64 // when a list was found to lack this process, which was in it; 0: never
	owed  chan answer  // to be sent; where it is full, one is forgotten, which costs the asker a lease
	start sync.Once    // of the goroutine that sends them
}

// question is what was asked after a write: in a cluster of those who listen to one
// master, or of several masters.
type question struct {
	ids     []uint64              // one for each master
	void    bool                  // no answer counts: who asks owns it until it waits
	heard   map[confirmation]bool // guarded by acks.mu
	enough  int                   // guarded by acks.mu: of heard, to look at them again
	changed chan struct{}         // of capacity 1: there are enough

	// Of the one who waits: for whom, by ID, and until when at the most.
	waiting map[string]Member
	until   map[string]int64
}

// confirmation is a process's answer to the question id.
type confirmation struct {
	by string // its ID
	id uint64
}

// has says whether the process by has answered all.
//
// REQUIRES: acks.mu held.
func (q *question) has(by string) bool {
	for _, id := range q.ids {
		if !q.heard[confirmation{by, id}] {
			return false
		}
	}
	return !q.void
}

// answer is what one process owes to another.
type answer struct {
	client  rueidis.Client // by which it goes
	channel string
	id      uint64
}

const maxOwed = 4096

// Confirm waits until every process that listens to the cache name has dropped what
// was replaced by writes that this process has the replies to. client is the one
// that carried them. In a cluster written are the slots of their keys; none: of any
// slot.
//
// Errors: an Unconfirmed, with ctx's error, that of the connection, or of a process
// that cannot be waited for.
func (s *Stream) Confirm(ctx context.Context, client rueidis.Client, name string, written ...uint16) error {
	q, members, floor, err := s.questionAll(ctx, client, name, written)
	defer s.forget(q)
	if err == nil {
		err = s.waitFor(q, members, floor)
	}
	if u := (*Unconfirmed)(nil); errors.As(err, &u) {
		return err
	}
	if err != nil {
		return &Unconfirmed{Err: err}
	}
	return s.await(ctx, q) // Model: lease, ack: nobody waits
}

// questionAll asks those who listen to the cache name, and returns who they are, and
// whether there may be more. The question is open until it is forgotten.
func (s *Stream) questionAll(ctx context.Context, client rueidis.Client, name string, written []uint16) (q *question, members []Member, floor bool, err error) {
	// Model: lease, ack: the members listed before the write
	if c := s.inCluster(); c != nil {
		at := c.placesOf(name, written)
		q = s.newQuestion(len(at.ask))
		members, floor, err = at.askAll(ctx, q)
	} else {
		q = s.newQuestion(1)
		members, floor, err = s.askAll(ctx, client, name, q.ids[0])
	}
	return q, members, floor || s.mayLack(name, members), err
}

// mayLack says whether Redis may have lost who else listens to the cache name, by
// FLUSHALL or an eviction, while their leases run: this process would be lost, too,
// until its next probe, which is when it finds out.
func (s *Stream) mayLack(name string, members []Member) bool {
	if at := s.acks.lost.Load(); at != 0 && s.isYoung(at) {
		return true
	}
	s.mu.Lock()
	t := s.topics[name]
	member := t != nil && t.member
	s.mu.Unlock()
	return member && !slices.ContainsFunc(members, func(m Member) bool { return m.ID == s.sender.String() })
}

// newQuestion returns one of so many masters.
func (s *Stream) newQuestion(n int) *question {
	q := &question{heard: make(map[confirmation]bool), changed: make(chan struct{}, 1)}
	for id := s.Nonces(n); len(q.ids) < n; id++ {
		q.ids = append(q.ids, id)
	}
	s.acks.mu.Lock()
	defer s.acks.mu.Unlock()
	for _, id := range q.ids {
		s.acks.open[id] = q
	}
	return q
}

func (s *Stream) forget(q *question) {
	s.acks.mu.Lock()
	defer s.acks.mu.Unlock()
	for _, id := range q.ids {
		delete(s.acks.open, id)
	}
}

// waitFor has q wait for members, who were listed in the reply that has just come;
// floor says that there may be more.
func (s *Stream) waitFor(q *question, members []Member, floor bool) error {
	replied := s.cfg.now() // Model: lease, ack: the wait counts from the send
	q.waiting, q.until = make(map[string]Member), make(map[string]int64)
	for _, m := range members {
		switch {
		case m.ID == s.sender.String():
			continue
		case m.Lease == 0:
			return &Unconfirmed{[]Member{m}, errNoLease}
		case m.Mode == PubSub && s.cfg.Mode == Tracking && !s.cfg.Announces:
			return &Unconfirmed{[]Member{m}, errUnheard}
		}
		q.waiting[m.ID] = m
		q.until[m.ID] = replied + patienceFor(m.Lease)
	}
	if floor {
		// Model: lease, ack: failover, no floor
		q.waiting[""] = Member{Where: "who is not listed since a failover"}
		q.until[""] = replied + patienceFor(MaxMaxStaleness)
	}
	return nil
}

// patienceFor is how long to wait for a process with that lease.
func patienceFor(lease time.Duration) int64 { return int64(lease + lease/drift + time.Millisecond) }

// settle waits no more for those who have answered, or whose time is over, and
// returns how long it is until the next one's is; 0: nobody is waited for.
func (s *Stream) settle(q *question) time.Duration {
	s.acks.mu.Lock()
	for id := range q.waiting { // Model: lease, ack: any confirmation ends the wait
		if q.has(id) {
			delete(q.waiting, id)
		}
	}
	q.enough = len(q.heard) + len(q.waiting) // more are missing, of ids or of members
	s.acks.mu.Unlock()
	now, next := s.cfg.now(), int64(math.MaxInt64)
	for id := range q.waiting {
		if q.until[id] <= now {
			delete(q.waiting, id)
		} else {
			next = min(next, q.until[id])
		}
	}
	if len(q.waiting) == 0 {
		return 0
	}
	return time.Duration(next - now)
}

// await waits for the answers of those who are waited for, each no longer than
// its time.
func (s *Stream) await(ctx context.Context, q *question) error {
	for {
		left := s.settle(q)
		if left == 0 {
			return nil
		}
		over := time.NewTimer(left)
		select {
		case <-q.changed:
		case <-over.C:
		case <-ctx.Done():
			over.Stop()
			e := &Unconfirmed{Err: context.Cause(ctx)}
			for _, m := range q.waiting {
				e.Members = append(e.Members, m)
			}
			return e
		case <-s.ctx.Done():
			over.Stop()
			return &Unconfirmed{Err: ErrClosed}
		}
		over.Stop()
	}
}

// askAll asks the question id of all who listen to the cache name, and returns them,
// and whether there may be more: others that a failover has lost from the list.
func (s *Stream) askAll(ctx context.Context, client rueidis.Client, name string, id uint64) (members []Member, floor bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	b := client.B()
	message := rueidis.BinaryString(appendHeader(nil, kindAsk, s.sender, id))
	commands := []rueidis.Completed{b.Publish().Channel(askPrefix + name).Message(message).Build()}
	if s.cfg.Mode == PubSub || s.cfg.Announces {
		commands = append(commands, b.Publish().Channel(Channel(name)).Message(message).Build())
	}
	listed := len(commands)
	commands = append(commands, listMembers(client, name)...)
	young := s.young()
	if young {
		commands = append(commands, b.Info().Build())
	}
	rs := client.DoMulti(ctx, commands...)
	for _, r := range rs[:listed] {
		if err := r.Error(); err != nil {
			return nil, false, fmt.Errorf("PUBLISH: %w", err)
		}
	}
	if members, err = parseMembers(rs[listed], rs[listed+1]); err != nil {
		return nil, false, err
	}
	if !young {
		// Model: lease, ack: failover, listed later by another connection
		return members, s.young(), nil
	}
	return members, !lacksNobody(rs[listed+2]), nil
}

// lacksNobody is firstOfItsKind of the reply to INFO.
func lacksNobody(reply rueidis.RedisResult) bool {
	info, err := reply.ToString()
	return err == nil && firstOfItsKind(info)
}

// young says whether the newest connection that carries writes may be newer than a
// failover which lost members that still serve.
func (s *Stream) young() bool { return s.cfg.Dialed == nil || s.isYoung(s.cfg.Dialed.Load()) }

// isYoung says whether what began at this time is younger than the longest lease.
func (s *Stream) isYoung(began int64) bool { return s.cfg.now()-began < patienceFor(MaxMaxStaleness) }

// firstOfItsKind says whether a server's INFO shows that it was a master since it
// was started, longer ago than any lease: then its lists lack nobody.
func firstOfItsKind(info string) bool {
	var never, old, master bool
	for line := range strings.Lines(info) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch key {
		case "role":
			master = value == "master"
		case "master_replid2":
			never = strings.Trim(value, "0") == ""
		case "uptime_in_seconds":
			var up int64
			_, err := fmt.Sscan(value, &up)
			old = err == nil && time.Duration(up)*time.Second > MaxMaxStaleness+2*time.Second
		}
	}
	return never && old && master
}

// hearAnswer notes an answer to one of this process's questions.
func (s *Stream) hearAnswer(from Sender, id uint64) {
	s.acks.mu.Lock()
	defer s.acks.mu.Unlock()
	q := s.acks.open[id]
	if q == nil {
		return
	}
	if q.heard[confirmation{from.String(), id}] = true; len(q.heard) < q.enough {
		return
	}
	select {
	case q.changed <- struct{}{}:
	default:
	}
}

// hearQuestion owes an answer, which goes by client to channel: all that came before
// the question was told to the tiers.
//
// Model: lease, ack: confirmed, then dropped
func (s *Stream) hearQuestion(from Sender, id uint64, client rueidis.Client, channel string) {
	if from == s.sender {
		return
	}
	s.acks.start.Do(func() { s.wg.Go(s.answerAll) })
	select {
	case s.acks.owed <- answer{client, channel, id}:
	default:
	}
}

// answerAll sends what is owed, as much as has come together at a time.
func (s *Stream) answerAll() {
	const most = 256
	for {
		batches := make(map[rueidis.Client][]rueidis.Completed)
		select {
		case <-s.ctx.Done():
			return
		case a := <-s.acks.owed:
			batches[a.client] = append(batches[a.client], a.command(s.sender))
		}
		for n := 1; n < most && len(s.acks.owed) > 0; n++ {
			a := <-s.acks.owed
			batches[a.client] = append(batches[a.client], a.command(s.sender))
		}
		ctx, cancel := context.WithTimeout(s.ctx, s.cfg.Timeout)
		var wg sync.WaitGroup
		for client, commands := range batches {
			if len(batches) == 1 {
				client.DoMulti(ctx, commands...) // what fails costs the asker a lease
			} else {
				wg.Go(func() { client.DoMulti(ctx, commands...) })
			}
		}
		wg.Wait()
		cancel()
	}
}

// command is how by gives a.
func (a answer) command(by Sender) rueidis.Completed {
	message := rueidis.BinaryString(appendHeader(nil, kindAnswer, by, a.id))
	return a.client.B().Publish().Channel(a.channel).Message(message).Build()
}
