package hybrid

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/internal/clock"
	"github.com/flipcache/flipcache/internal/slots"
	"github.com/flipcache/flipcache/invalidate"
)

// keyIsItself fails unless key comes back from Redis, and text is taken for a key
// only if it is that key's text.
func keyIsItself[K Key](t *testing.T, key K, text string) {
	t.Helper()
	if again, ok := parseKey[K](keyText(key)); !ok || again != key {
		t.Fatalf("%v came back as %v, %t", key, again, ok)
	}
	if got, ok := parseKey[K](text); ok && keyText(got) != text {
		t.Fatalf("%q is taken for %v, which is %q", text, got, keyText(got))
	}
}

func FuzzKeys(f *testing.F) {
	for _, text := range []string{"", "0", "-0", "+1", "007", "-9223372036854775808", "18446744073709551615", "4294967296", "k{x}", "}{", "{}a", "\xff\x00\n"} {
		f.Add(text, int64(-1))
	}
	f.Fuzz(func(t *testing.T, text string, n int64) {
		keyIsItself(t, text, text)
		keyIsItself(t, int(n), text)
		keyIsItself(t, int32(n), text)
		keyIsItself(t, n, text)
		keyIsItself(t, uint32(n), text)
		keyIsItself(t, uint64(n), text)
		key := "n:" + text
		token := tokenKey(key)
		if slots.Of(token) != slots.Of(key) {
			t.Fatalf("%q lies in another slot than %q", token, key)
		}
		if !isToken(token, "n:") {
			t.Fatalf("%q is a token of n", token)
		}
		if strings.HasPrefix(token, "n:") || tokenKey(key+"x") == token {
			t.Fatalf("%q collides", token)
		}
	})
}

// Of two names that a Store takes, no key of the one is a key of the other, nor one
// of the library's own.
func FuzzNames(f *testing.F) {
	f.Add("a", "a:b", "k")
	f.Add("a:", "a", ":")
	f.Add("flipcache#load", "x", "")
	f.Add("*", "[a]", "\\")
	f.Fuzz(func(t *testing.T, one, two, key string) {
		if checkName(one, nil) != nil || checkName(two, map[string]bool{one: true}) != nil {
			return
		}
		if k := one + ":" + key; strings.HasPrefix(k, two+":") || strings.HasPrefix(k, reservedNames) {
			t.Fatalf("%q is of %q, and of %q or the library's own", k, one, two)
		}
	})
}

// Options are refused, with ErrOption, or complete: no deadline of theirs is over
// before it begins, and nothing lives for ever that was given an end.
func FuzzOptions(f *testing.F) {
	f.Add(int64(0), int64(0), 0, int64(0), 0.0, int64(0), byte(0), byte(0), byte(1))
	f.Add(int64(time.Minute), int64(-1), 1, int64(minLocalBytes), 1.0, int64(time.Millisecond), byte(2), byte(1), byte(2))
	f.Add(int64(1), int64(1), -1, int64(-1), -0.5, int64(-1), byte(255), byte(255), byte(0))
	f.Fuzz(func(t *testing.T, ttl, localTTL int64, size int, bytes int64, jitter float64, negative int64, policy, flags, mode byte) {
		o := Options[string, string]{
			TTL: time.Duration(ttl), LocalTTL: time.Duration(localTTL), LocalSize: size, LocalBytes: bytes, TTLJitter: jitter,
			NegativeTTL: time.Duration(negative), Policy: Policy(policy), RefreshTTLOnGet: flags&1 != 0, NoLocal: flags&2 != 0,
		}
		m := invalidate.Mode(mode % 3)
		if err := o.complete(m); err != nil {
			if !errors.Is(err, ErrOption) {
				t.Fatalf("%+v: %v is no ErrOption", o, err)
			}
			return
		}
		c := &Cache[string, string]{shared: &shared[string, string]{ttl: o.TTL.Truncate(time.Millisecond), jitter: o.TTLJitter, localTTL: o.LocalTTL, tier: nil}}
		if life := c.life(); o.TTL == 0 != (life == forEver) || life < minTTL || o.TTL > 0 && life > o.TTL {
			t.Fatalf("TTL %v, jitter %v: a life of %v", o.TTL, o.TTLJitter, life)
		}
		if text := px(c.life()); o.TTL > 0 {
			if ms, err := strconv.ParseInt(text, 10, 64); err != nil || ms < 1 {
				t.Fatalf("TTL %v is %q for Redis", o.TTL, text)
			}
		}
		for _, sent := range []int64{0, 1 << 40, clock.Never - 1} {
			for _, life := range []time.Duration{minTTL, o.TTL, forEver} {
				if life == 0 {
					continue
				}
				if end, _ := c.localDeadline(sent, life); end <= sent {
					t.Fatalf("what lives %v from %d on ends at %d", life, sent, end)
				}
			}
		}
		if o.LocalSize < 1 || o.LocalTTL < minTTL || o.Codec == nil || o.Policy > FIFO {
			t.Fatalf("accepted: %+v", o)
		}
	})
}

// StoreOptions are refused with ErrOption, or promise what can be kept.
func FuzzStoreOptions(f *testing.F) {
	f.Add("127.0.0.1:6379", byte(1), int64(0), int64(0), int64(0), byte(0))
	f.Add("", byte(9), int64(time.Hour), int64(-1), int64(1), byte(7))
	f.Fuzz(func(t *testing.T, addr string, mode byte, staleness, aside, timeout int64, flags byte) {
		o := StoreOptions{Invalidation: invalidate.Mode(mode), MaxStaleness: time.Duration(staleness), ServeStaleFor: time.Duration(aside),
			Timeout: time.Duration(timeout), Announce: flags&1 != 0}
		if addr != "" {
			o.Client.InitAddress = []string{addr}
		}
		o.Client.AlwaysRESP2, o.Client.ReplicaOnly = flags&2 != 0, flags&4 != 0
		err := o.validate()
		switch {
		case err != nil && !errors.Is(err, ErrOption):
			t.Fatalf("%v is no ErrOption", err)
		case err != nil:
		case addr == "", o.Invalidation > invalidate.Tracking, o.Client.ReplicaOnly, o.ServeStaleFor < 0, o.Timeout < 0,
			o.MaxStaleness != 0 && (o.Invalidation == invalidate.Off || o.MaxStaleness < invalidate.MinStaleness || o.MaxStaleness > invalidate.MaxMaxStaleness):
			t.Fatalf("accepted: %+v", o)
		}
	})
}

// respOf makes a reply of data, whatever that is: one that is well formed, as the
// client library's own reader is not ours to judge.
func respOf(data []byte, depth int) (reply string, rest []byte) {
	if len(data) == 0 {
		return "_\r\n", nil
	}
	kind, data := data[0]%12, data[1:]
	take := func(n int) string {
		n = min(n, len(data))
		s := string(data[:n])
		data = data[n:]
		return s
	}
	line := strings.NewReplacer("\r", "?", "\n", "?").Replace
	number := func() int64 {
		n := int64(0)
		for _, b := range []byte(take(8)) {
			n = n<<8 | int64(b)
		}
		return n
	}
	switch {
	case kind == 0:
		return ":" + strconv.FormatInt(number(), 10) + "\r\n", data
	case kind == 1:
		return "+" + line(take(12)) + "\r\n", data
	case kind == 2:
		return "-" + [...]string{"ERR ", "NOPERM ", "READONLY ", "LOADING ", "NOSCRIPT ", "WRONGTYPE ", "OOM ", ""}[len(data)%8] + line(take(12)) + "\r\n", data
	case kind == 3:
		return "#t\r\n", data
	case kind == 4:
		return ",1.5\r\n", data
	case kind <= 6 && depth < 3:
		var b strings.Builder
		n := 0
		if len(data) > 0 {
			n, data = int(data[0]%5), data[1:]
		}
		b.WriteString("*" + strconv.Itoa(n) + "\r\n")
		for range n {
			var one string
			one, data = respOf(data, depth+1)
			b.WriteString(one)
		}
		return b.String(), data
	case kind == 7:
		return "_\r\n", data
	default:
		n := 0
		if len(data) > 0 {
			n, data = int(data[0]), data[1:]
		}
		s := take(n)
		return "$" + strconv.Itoa(len(s)) + "\r\n" + s + "\r\n", data
	}
}

// Whatever Redis answers to one of the commands of any method: it returns, nothing
// panics, and what the tier then holds is what could be decoded.
func FuzzReplies(f *testing.F) {
	f.Add(byte(0), byte(0), []byte{8, 3, 'a', 'b', 'c'})
	f.Add(byte(1), byte(1), []byte{0, 255, 255, 255, 255, 255, 255, 255, 254})
	f.Add(byte(4), byte(2), []byte{5, 3, 0, 8, 1, 'x', 0})
	f.Add(byte(7), byte(0), []byte{2, 'n', 'o'})
	server := newOdd(f)
	p := func() process {
		so := StoreOptions{Invalidation: invalidate.Off, Timeout: 2 * time.Second}
		so.Client = rueidis.ClientOption{InitAddress: []string{server.addr}, ForceSingleClient: true, DisableCache: true}
		st, err := Open(ctx, so)
		if err != nil {
			f.Fatal(err)
		}
		f.Cleanup(func() { st.Close() })
		return process{newOn(f, st, "n", Options[string, string]{TTL: time.Minute, NegativeTTL: time.Minute}), st}
	}()
	methods := allMethods(p)
	names := slices.Sorted(maps.Keys(methods))
	f.Fuzz(func(t *testing.T, method, position byte, data []byte) {
		p.tier.Take()
		reply, _ := respOf(data, 0)
		server.count.Store(0)
		server.arms.Store(&struct {
			position int64
			reply    string
		}{int64(position % 6), reply})
		c, cancel := context.WithTimeout(ctx, 20*time.Millisecond) // Update may go on asking
		methods[names[int(method)%len(names)]](c)
		cancel()
		server.arms.Store(nil)
		for _, e := range p.tier.Entries() {
			if e.Deadline <= 0 || e.Missing && e.Value != "" {
				t.Fatalf("%s: %q leaves %+v", names[int(method)%len(names)], reply, e)
			}
		}
	})
}
