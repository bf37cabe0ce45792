package invalidate

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2/server"
	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/internal/slots"
)

// A cluster of two masters that serve half of the slots each, and one that has none.
const twoHalves = `a 127.0.0.1:1@11 master - 0 0 1 connected 0-8191
b 127.0.0.1:2@12 master - 0 0 2 connected 8192-16383
c 127.0.0.1:3@13 master - 0 0 3 connected
`

// said is what the master me says of nodes. more is what its line ends with, as
// "[5->-c]" for a slot on its way, or empty.
func said(me, nodes, more string) (all string) {
	for line := range strings.Lines(nodes) {
		if strings.HasPrefix(line, me+" ") {
			line = strings.Replace(strings.TrimSpace(line), " master ", " myself,master ", 1) + " " + more + "\n"
		}
		all += line
	}
	return all
}

func viewFrom(t *testing.T, nodes string) slots.View {
	t.Helper()
	v, err := slots.ParseNodes(nodes)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// A fakeNode is a server that says what a test has it say.
type fakeNode struct {
	rueidis.Client
	addr string

	mu      sync.Mutex // guards all below
	nodes   string     // CLUSTER NODES
	info    string
	members []string // with their scores
	added   int      // of the script that registers
	refuses string   // a command
	silent  bool
	on      func(command string)
}

func newFakeNode(t *testing.T) *fakeNode {
	t.Helper()
	s, err := server.NewServer("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	n := &fakeNode{addr: s.Addr().String()}
	over := make(chan struct{})
	t.Cleanup(func() { close(over) }) // before the server ends
	for command, reply := range map[string]func(c *server.Peer){
		"CLIENT":  func(c *server.Peer) { c.WriteOK() },
		"PING":    func(c *server.Peer) { c.WriteOK() },
		"EXISTS":  func(c *server.Peer) { c.WriteInt(0) },
		"SET":     func(c *server.Peer) { c.WriteOK() },
		"PUBLISH": func(c *server.Peer) { c.WriteInt(1) },
		"CLUSTER": func(c *server.Peer) { c.WriteBulk(n.nodes) },
		"INFO":    func(c *server.Peer) { c.WriteBulk(n.info) },
		"TIME":    func(c *server.Peer) { c.WriteStrings([]string{"1000", "0"}) },
		"ZRANGE":  func(c *server.Peer) { c.WriteStrings(n.members) },
		"EVALSHA": func(c *server.Peer) { c.WriteLen(1); c.WriteInt(n.added) },
		"HELLO":   func(c *server.Peer) { c.WriteMapLen(1); c.WriteBulk("version"); c.WriteBulk("7.0.15") },
	} {
		s.Register(command, func(c *server.Peer, _ string, _ []string) {
			n.mu.Lock()
			defer n.mu.Unlock()
			if n.on != nil {
				n.on(command)
			}
			switch {
			case n.silent:
				n.mu.Unlock()
				<-over
				n.mu.Lock()
			case command == n.refuses:
				c.WriteError("NOREPLICAS Not enough good replicas to write.")
			default:
				reply(c)
			}
		})
	}
	n.Client, err = rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{n.addr}, ForceSingleClient: true, DisableCache: true, DisableRetry: true, PipelineMultiplex: -1,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

// says changes what n says.
func (n *fakeNode) says(change func(n *fakeNode)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change(n)
}

// A fakeCluster is a client of fakeNodes.
type fakeCluster struct {
	rueidis.Client
	nodes map[string]rueidis.Client
}

func (fakeCluster) Mode() rueidis.ClientMode           { return rueidis.ClientModeCluster }
func (f fakeCluster) Nodes() map[string]rueidis.Client { return f.nodes }

// A halves is a process' side of the cluster twoHalves, with a lease.
type halves struct {
	*cluster
	s      *Stream
	a, b   *fakeNode
	client fakeCluster
	now    *atomic.Int64
}

func newHalves(t *testing.T) *halves {
	t.Helper()
	h := &halves{a: newFakeNode(t), b: newFakeNode(t), now: new(atomic.Int64)}
	h.now.Store(int64(time.Hour))
	h.s = newStream(Config{Mode: Tracking, Timeout: 5 * time.Second, MaxStaleness: time.Second, Lease: new(atomic.Int64), now: h.now.Load})
	h.s.ctx, h.s.cancel = context.WithCancel(context.Background())
	t.Cleanup(h.s.wg.Wait)
	t.Cleanup(h.s.cancel)
	h.client = fakeCluster{h.a, map[string]rueidis.Client{h.a.addr: h.a, h.b.addr: h.b}}
	tr := &tracking{s: h.s, client: h.client, conns: make(map[string]*tracked)}
	h.cluster = &cluster{t: tr}
	tr.cluster, h.s.ear = h.cluster, tr
	h.all(twoHalves)
	return h
}

// all has both masters say nodes.
func (h *halves) all(nodes string) {
	h.a.says(func(n *fakeNode) { n.nodes = said("a", nodes, "") })
	h.b.says(func(n *fakeNode) { n.nodes = said("b", nodes, "") })
}

// session begins one, as far as questions are not heard.
func (h *halves) session(t *testing.T) {
	t.Helper()
	if err := h.discover(); err != nil {
		t.Fatal(err)
	}
}

// dialed has the connection to n be of that age.
func (h *halves) dialed(n *fakeNode, age time.Duration) *tracked {
	h.t.mu.Lock()
	defer h.t.mu.Unlock()
	conn, _ := net.Pipe()
	c := &tracked{Conn: conn, t: h.t, addr: n.addr, dialed: h.now.Load() - int64(age)}
	h.t.conns[n.addr] = c
	return c
}

// nameAt returns the name of a cache whose list the master lies at: "a" or "b".
func nameAt(master string) string {
	for i := 0; ; i++ {
		name := fmt.Sprintf("n%d", i)
		if (slots.Of(membersPrefix+name) < 8192) == (master == "a") {
			return name
		}
	}
}
