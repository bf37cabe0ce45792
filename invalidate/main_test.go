package invalidate

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"go.uber.org/goleak"

	"github.com/flipcache/flipcache/internal/redistest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, sleeper,
		goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*clusterClient)._refresh.func2"),
		goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*clusterClient).redirectOrNew.func1"))
}

// sleeper is a goroutine of rueidis' client for clusters that ends by itself: it
// sleeps for a second after its first question. Those of TestMain sleep for five
// before they close a connection.
var sleeper = goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*call).DelayDo.func1")

var ctx = context.Background()

// listen opens a stream on s, which ends with the test.
func listen(t testing.TB, s redistest.Server, change ...func(*Config)) *Stream {
	t.Helper()
	st, err := tryListen(s, change...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(st.Close)
	return st
}

func tryListen(s redistest.Server, change ...func(*Config)) (*Stream, error) {
	c := Config{Client: s.ClientOption(), Timeout: 5 * time.Second}
	for _, f := range change {
		f(&c)
	}
	return Open(ctx, c)
}

func probing(every time.Duration) func(*Config) { return func(c *Config) { c.probeEvery = every } }

func by(l *link) func(*Config) { return func(c *Config) { c.Client.DialCtxFn = l.dial } }

// eventually waits for what others have to bring about.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func await(t testing.TB, st *Stream, want Status) {
	t.Helper()
	eventually(t, fmt.Sprintf("status %v", want), func() bool { return st.State().Status == want })
}

// awaitCuts waits until the stream has been cut n times in all and is live.
func awaitCuts(t testing.TB, st *Stream, n uint64) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d cuts, and live", n), func() bool {
		s := st.State()
		return s.Cuts >= n && s.Status == Live
	})
}

func publish(t testing.TB, admin rueidis.Client, name string, message []byte) {
	t.Helper()
	redistest.Do(t, admin, "PUBLISH", Channel(name), string(message))
}

// keys is the message of a foreign process that keys were changed.
func keys(nonce uint64, keys ...string) []byte {
	b, n := AppendKeys(nil, Sender{0xf0}, nonce, keys)
	if n != len(keys) {
		panic("too many keys for one message")
	}
	return b
}

// An event is one call of a recorder.
type event struct {
	What  string // drop, all, cut, resume
	Key   string
	Nonce uint64
	Own   bool
}

// A recorder is a tier that writes down what it is told.
type recorder struct {
	mu     sync.Mutex
	events []event
	live   bool
	broken []string // what the stream did out of turn
}

func (r *recorder) note(e event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.What == "cut" && !r.live || e.What == "resume" && r.live {
		r.broken = append(r.broken, fmt.Sprintf("%v while live is %v", e, r.live))
	}
	switch e.What {
	case "cut":
		r.live = false
	case "resume":
		r.live = true
	}
	r.events = append(r.events, e)
}

func (r *recorder) Drop(key string, nonce uint64, own bool) { r.note(event{"drop", key, nonce, own}) }
func (r *recorder) Push(key string)                         { r.note(event{What: "push", Key: key}) }
func (r *recorder) DropAll()                                { r.note(event{What: "all"}) }
func (r *recorder) Cut()                                    { r.note(event{What: "cut"}) }
func (r *recorder) Resume()                                 { r.note(event{What: "resume"}) }

func (r *recorder) all() []event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]event(nil), r.events...)
}

func (r *recorder) isLive() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.live
}

func (r *recorder) count(what, key string) (n int) {
	for _, e := range r.all() {
		if e.What == what && e.Key == key {
			n++
		}
	}
	return n
}

// inTurn fails the test if the stream broke the contract of Tier.
func (r *recorder) inTurn(t testing.TB) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range r.broken {
		t.Errorf("out of turn: %s", b)
	}
}

// joined joins a recorder under name, which must be live at once, and checks
// at the test's end that it was told everything in turn.
func joined(t testing.TB, st *Stream, name string) *recorder {
	t.Helper()
	r := new(recorder)
	if err := st.Join(ctx, name, r); err != nil {
		t.Fatal(err)
	}
	if !r.isLive() {
		t.Fatal("Join returned and the tier is not live")
	}
	t.Cleanup(func() { r.inTurn(t) })
	return r
}

// heard waits until everything published so far on name has reached r.
func heard(t testing.TB, admin rueidis.Client, name string, r *recorder) {
	t.Helper()
	mark := fmt.Sprintf("mark %d", marks.Add(1))
	publish(t, admin, name, keys(1, mark))
	eventually(t, "the mark on "+name, func() bool { return r.count("drop", mark) > 0 })
}

var marks atomic.Uint64

func numSub(t testing.TB, admin rueidis.Client, name string) int64 {
	t.Helper()
	m := redistest.Do(t, admin, "PUBSUB", "NUMSUB", Channel(name))
	a, err := m.AsIntMap()
	if err != nil {
		t.Fatal(err)
	}
	return a[Channel(name)]
}
