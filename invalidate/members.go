package invalidate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

// membership is how long a process counts as a member of its caches without a
// probe. It is part of the protocol, and longer than any lease.
const membership = 30 * time.Second

const (
	membersPrefix = "flipcache#members:"
	processPrefix = "flipcache#process:"
)

// registerScript: KEYS are the member lists of the caches, ARGV[1] what stands
// there for this process, ARGV[2] the membership in ms, ARGV[3] and ARGV[4] a
// channel, or nothing, and a message. It is a write: no replica and no master
// that lacks its replicas (min-replicas-to-write) does it. It returns for each list
// whether the process was not there.
var registerScript = rueidis.NewLuaScript(`
local added = {}
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
for i = 2, #KEYS do
  added[i - 1] = redis.call('ZADD', KEYS[i], now + ARGV[2], ARGV[1])
  redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', '(' .. now)
  redis.call('PEXPIRE', KEYS[i], ARGV[2])
end
if ARGV[3] ~= '' then redis.call('PUBLISH', ARGV[3], ARGV[4]) end
return added
`)

// register renews this process's membership in its caches, and publishes
// message on channel, if there is one, in the same step. No tier serves before its
// process is a member; but one without a lease may lack the rights for it. It says
// whether all was done: in a cluster, where each list has a slot of its own, and
// without those rights, nothing was published.
func (s *Stream) register(channel, message string) (done bool, err error) {
	var lists []string
	var topics []*topic
	s.mu.Lock()
	if s.state.Status == Closed {
		s.mu.Unlock()
		return false, ErrClosed
	}
	for name, t := range s.topics {
		lists, topics = append(lists, membersPrefix+name), append(topics, t)
	}
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(s.ctx, s.cfg.Timeout)
	defer cancel()
	client := s.ear.commands()
	var added []bool
	switch {
	case s.unlisted.Load():
	case client.Mode() == rueidis.ClientModeCluster:
		added, err = s.registerEach(ctx, client, lists)
	default:
		added, err = s.registerAs(ctx, client, append([]string{processKey(s.sender)}, lists...), channel, message)
		done = err == nil
	}
	if s.forgives(err) {
		s.unlisted.Store(true)
		added, err = nil, nil
	}
	if err == nil {
		s.registered(topics, added)
	}
	return done, err
}

// registered tells that the process is a member of the caches of topics; added says in
// which lists it was not any more: those are others' that Redis has lost.
func (s *Stream) registered(topics []*topic, added []bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, t := range topics {
		if t.member && i < len(added) && added[i] {
			s.acks.lost.Store(s.cfg.now())
		}
		t.member = true
		s.resume(t)
	}
}

// registerAs runs the script with these keys.
func (s *Stream) registerAs(ctx context.Context, client rueidis.Client, keys []string, channel, message string) (added []bool, err error) {
	r := registerScript.Exec(ctx, client, keys,
		[]string{s.member(), strconv.FormatInt(membership.Milliseconds(), 10), channel, message})
	if err := r.Error(); err != nil {
		return nil, err
	}
	all, _ := r.AsIntSlice()
	for _, n := range all {
		added = append(added, n == 1)
	}
	return added, nil
}

// farewell bounds leave: where Redis is silent, the membership ends by itself.
const farewell = 200 * time.Millisecond

// leave ends this process's membership, when its tiers serve no more: nobody has to
// wait for it then.
func (s *Stream) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), min(farewell, s.cfg.Timeout))
	defer cancel()
	client := s.ear.commands()
	commands := []rueidis.Completed{client.B().Del().Key(processKey(s.sender)).Build()}
	s.mu.Lock()
	for name := range s.topics { // nobody joins any more
		commands = append(commands, client.B().Zrem().Key(membersPrefix+name).Member(s.member()).Build())
	}
	s.mu.Unlock()
	client.DoMulti(ctx, commands...)
}

func processKey(s Sender) string { return processPrefix + s.String() }

// A Member is a process that listens to a cache.
type Member struct {
	ID        string        // its Sender, in hex
	Mode      Mode          // how it listens
	Lease     time.Duration // its MaxStaleness; 0: none
	Announces bool          // it tells those in PubSub of its writes
	Where     string        // host/process id
}

// member is how this process stands in the lists.
func (s *Stream) member() string {
	host, _ := os.Hostname()
	m := Member{s.sender.String(), s.cfg.Mode, s.lease.max, s.cfg.Announces, fmt.Sprintf("%s/%d", host, os.Getpid())}
	return m.String()
}

// String returns the member as it stands in Redis.
func (m Member) String() string {
	return fmt.Sprintf("%s %v %d %t %s", m.ID, m.Mode, m.Lease.Milliseconds(), m.Announces, m.Where)
}

func parseMember(s string) (m Member, err error) {
	parts := strings.SplitN(s, " ", 5)
	if len(parts) != 5 {
		return m, fmt.Errorf("invalidate: %q is no member", s)
	}
	mode, err1 := ParseMode(parts[1])
	ms, err2 := strconv.ParseInt(parts[2], 10, 64)
	announces, err3 := strconv.ParseBool(parts[3])
	return Member{parts[0], mode, time.Duration(ms) * time.Millisecond, announces, parts[4]}, errors.Join(err1, err2, err3)
}

// Members returns the processes that listen to the cache name, or did so half a
// minute ago and ended without a word.
func (s *Stream) Members(ctx context.Context, name string) ([]Member, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	client := s.ear.commands()
	rs := client.DoMulti(ctx, listMembers(client, name)...)
	return parseMembers(rs[0], rs[1])
}

// listMembers are the commands whose replies parseMembers reads.
func listMembers(client rueidis.Client, name string) []rueidis.Completed {
	b := client.B()
	return []rueidis.Completed{
		b.Time().Build(), b.Zrange().Key(membersPrefix + name).Min("0").Max("-1").Withscores().Build(),
	}
}

func parseMembers(time, list rueidis.RedisResult) (all []Member, err error) {
	now, err := time.AsIntSlice()
	if err != nil || len(now) != 2 {
		return nil, fmt.Errorf("TIME: %w", err)
	}
	scores, err := list.AsZScores()
	if err != nil {
		return nil, fmt.Errorf("ZRANGE: %w", err)
	}
	for _, z := range scores {
		if int64(z.Score) < now[0]*1000+now[1]/1000 {
			continue
		}
		if m, err := parseMember(z.Member); err == nil { // else of a version to come
			all = append(all, m)
		}
	}
	slices.SortFunc(all, func(a, b Member) int { return strings.Compare(a.ID, b.ID) })
	return all, nil
}
