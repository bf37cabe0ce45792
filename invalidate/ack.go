package invalidate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
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

	owed  chan answer // to be sent; where it is full, one is forgotten, which costs the asker a lease
	start sync.Once   // of the goroutine that sends them
}

// question is one that was asked.
type question struct {
	id      uint64
	heard   map[string]bool // who has answered, by ID. Guarded by acks.mu.
	changed chan struct{}   // of capacity 1: heard has grown

	// Of the one who waits: for whom, by ID, and until when at the most.
	waiting map[string]Member
	until   map[string]int64
}

// answer is what one process owes to another.
type answer struct {
	to Sender
	id uint64
}

const maxOwed = 4096

// Confirm waits until every process that listens to the cache name has dropped what
// was replaced by writes that this process has the replies to. client is the one
// that carried them.
//
// Errors: an Unconfirmed, with ctx's error, that of the connection, or of a process
// that cannot be waited for.
func (s *Stream) Confirm(ctx context.Context, client rueidis.Client, name string) error {
	q := s.newQuestion()
	defer s.forget(q)
	// Model: lease, ack: the members listed before the write
	members, floor, err := s.askAll(ctx, client, name, q.id)
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

func (s *Stream) newQuestion() *question {
	q := &question{id: s.Nonces(1), heard: make(map[string]bool), changed: make(chan struct{}, 1)}
	s.acks.mu.Lock()
	defer s.acks.mu.Unlock()
	s.acks.open[q.id] = q
	return q
}

func (s *Stream) forget(q *question) {
	s.acks.mu.Lock()
	defer s.acks.mu.Unlock()
	delete(s.acks.open, q.id)
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
// returns how long there is to wait, at the most; 0: for nobody.
func (s *Stream) settle(q *question) time.Duration {
	s.acks.mu.Lock()
	for id := range q.heard { // Model: lease, ack: any confirmation ends the wait
		delete(q.waiting, id)
	}
	s.acks.mu.Unlock()
	now, last := s.cfg.now(), int64(0)
	for id := range q.waiting {
		if q.until[id] <= now {
			delete(q.waiting, id)
		}
		last = max(last, q.until[id])
	}
	if len(q.waiting) == 0 {
		return 0
	}
	return time.Duration(last - now)
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
	if young {
		info, err := rs[listed+2].ToString()
		floor = err != nil || !firstOfItsKind(info)
	}
	return members, floor, nil
}

// young says whether the connection that carries writes may be newer than a failover
// which lost members that still serve.
func (s *Stream) young() bool {
	// Model: lease, ack: failover, listed later by another connection
	return s.cfg.Dialed == nil || s.cfg.now()-s.cfg.Dialed.Load() < patienceFor(MaxMaxStaleness)
}

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
	q.heard[from.String()] = true
	select {
	case q.changed <- struct{}{}:
	default:
	}
}

// hearQuestion owes an answer: all that came before the question was told to the
// tiers.
//
// Model: lease, ack: confirmed, then dropped
func (s *Stream) hearQuestion(from Sender, id uint64) {
	if from == s.sender {
		return
	}
	s.acks.start.Do(func() { s.wg.Go(s.answerAll) })
	select {
	case s.acks.owed <- answer{from, id}:
	default:
	}
}

// answerAll sends what is owed, as much as has come together at a time.
func (s *Stream) answerAll() {
	const most = 256
	for {
		var batch []answer
		select {
		case <-s.ctx.Done():
			return
		case a := <-s.acks.owed:
			batch = append(batch, a)
		}
		for len(batch) < most && len(s.acks.owed) > 0 {
			batch = append(batch, <-s.acks.owed)
		}
		client := s.ear.commands()
		commands := make([]rueidis.Completed, len(batch))
		for i, a := range batch {
			message := rueidis.BinaryString(appendHeader(nil, kindAnswer, s.sender, a.id))
			commands[i] = client.B().Publish().Channel(selfChannel(a.to)).Message(message).Build()
		}
		ctx, cancel := context.WithTimeout(s.ctx, s.cfg.Timeout)
		client.DoMulti(ctx, commands...) // what fails costs the asker a lease
		cancel()
	}
}
