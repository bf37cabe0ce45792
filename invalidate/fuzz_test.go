package invalidate

import (
	"strconv"
	"strings"
	"testing"

	"github.com/redis/rueidis"
)

// A record in a list of members, by whomever it was written: refused, or one that
// would be written just so, but for what numbers and names may look like.
func FuzzMember(f *testing.F) {
	f.Add("0102030405060708 pubsub 300 false host/7")
	f.Add("0102030405060708 tracking 0 true a host/7 with spaces")
	f.Add("x off -9223372036854775808 T ")
	f.Add("a b c d")
	f.Fuzz(func(t *testing.T, s string) {
		m, err := parseMember(s)
		if err != nil {
			return
		}
		again, err := parseMember(m.String())
		if err != nil || again != m {
			t.Fatalf("%q is %+v, which is written as %q: %+v, %v", s, m, m, again, err)
		}
		if ms := m.Lease.Milliseconds(); strconv.FormatInt(ms, 10) != strings.TrimLeft(strings.SplitN(s, " ", 5)[2], "+0") && ms > 0 {
			t.Fatalf("%q has a lease of %v", s, m.Lease)
		}
	})
}

// Whatever INFO looks like: only a master that was one from its start, which was
// longer ago than any lease, makes the floor of acknowledged writes unnecessary.
func FuzzInfo(f *testing.F) {
	good := "role:master\r\nmaster_replid2:0000000000000000000000000000000000000000\r\nuptime_in_seconds:60\r\n"
	f.Add(good)
	f.Add(strings.ReplaceAll(good, "\r\n", "\n"))
	f.Add(strings.Replace(good, "role:master", "role:slave", 1))
	f.Add(strings.Replace(good, "60", "-60", 1))
	f.Add(strings.Replace(good, "60", "3", 1))
	f.Add("uptime_in_seconds:99999999999999999999\r\nrole:master\r\nmaster_replid2:\r\n")
	f.Fuzz(func(t *testing.T, info string) {
		if !firstOfItsKind(info) {
			return
		}
		if !strings.Contains(info, "role:master") || !strings.Contains(info, "master_replid2:") || !strings.Contains(info, "uptime_in_seconds:") {
			t.Fatalf("%q says nothing of the kind", info)
		}
	})
}

// What comes on any channel of a session never panics, drops at the most what is
// held, never resumes a tier nor cuts it, and proves nothing but what was asked.
func FuzzHeard(f *testing.F) {
	for name, s := range malformed() {
		f.Add(Channel("n"), s)
		f.Add(Channel(name), s)
	}
	b, _ := AppendKeys(nil, Sender{1}, 7, []string{"a", ""})
	f.Add(Channel("n"), string(b))
	f.Add(Channel("n"), string(appendHeader(nil, kindAsk, Sender{2}, 1)))
	f.Add("flipcache:self:0000000000000000", string(appendHeader(nil, kindAnswer, Sender{2}, 1)))
	f.Add("flipcache:self:0000000000000000", "token")
	f.Fuzz(func(t *testing.T, channel, message string) {
		s := newStream(Config{Mode: PubSub})
		s.sender = Sender{}
		s.acks.start.Do(func() {}) // nobody sends them
		p := &pubsub{s: s, self: selfChannel(s.sender)}
		s.ear = p
		r := &recorder{live: true}
		s.topics["n"] = &topic{tier: r, hears: true, member: true, live: true}
		s.begin()
		s.note(s.session, "token")
		p.onMessage(s.session, rueidis.PubSubMessage{Channel: channel, Message: message})
		tr := &tracking{s: s}
		tr.hearsAt(nil, "")(rueidis.PubSubMessage{Channel: channel, Message: message})
		if r.count("cut", "")+r.count("resume", "") != 0 {
			t.Fatal("a message changed whether the tier is live")
		}
		if channel != Channel("n") && len(r.events) > 0 {
			t.Fatalf("the tier was told %v by what came on %q", r.events, channel)
		}
		if heard := len(s.probes) == 0; heard != (channel == p.self && message == "token") {
			t.Fatalf("the probe counts as answered: %t", heard)
		}
		if _, err := parse(message); err != nil && channel == Channel("n") && r.count("all", "") != 1 {
			t.Fatal("a message that is not understood did not drop all")
		}
	})
}

// Whichever key Redis says has changed, the tier of the cache that it is of hears
// of it, and no other.
func FuzzPush(f *testing.F) {
	f.Add("n", "other:x", "n:k")
	f.Add("a:b", "a", "a:b:c:d")
	f.Add("", "n", ":")
	f.Fuzz(func(t *testing.T, one, two, key string) {
		if one == two || strings.HasPrefix(one+":", two+":") || strings.HasPrefix(two+":", one+":") {
			return // no Store has both
		}
		s := newStream(Config{Mode: Tracking})
		tiers := map[string]*recorder{one: {live: true}, two: {live: true}}
		for name, r := range tiers {
			s.topics[name], s.longest = &topic{tier: r, live: true}, max(s.longest, len(name))
		}
		s.push(key)
		for name, r := range tiers {
			rest, mine := strings.CutPrefix(key, name+":")
			if mine != (r.count("push", rest) == 1) || len(r.events) > 1 {
				t.Fatalf("%q, of which %q is one: %t, was told %v", key, name, mine, r.events)
			}
		}
	})
}
