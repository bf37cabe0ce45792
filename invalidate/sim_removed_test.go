package invalidate

import (
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	simRemoved = flag.Bool("sim.removed", false, "run the simulation with each defence taken out")
	simOnly    = flag.String("sim.only", "", "of -sim.removed, those whose name contains this")
)

// simDefences are what the simulation must miss when it is taken out: in the file,
// the text old becomes new.
var simDefences = []struct{ name, file, old, new string }{
	{"H1, PubSub: a message detaches the fill", "internal/flights/flights.go",
		"ks.detach() // Mod" + "el: pubsub, a message does not detach the fill", ""},
	{"H1, Tracking: a push detaches the fill", "internal/flights/flights.go",
		"ks.detach() // Mod" + "el: tracking, a fill enters whatever was pushed", ""},
	{"H2: overlapping writes doom each other", "internal/flights/flights.go",
		"if len(ks.writes) > 1 {", "if false {"},
	{"H2: a message dooms the open writes", "internal/flights/flights.go",
		"ks.doom()   // Mod" + "el: pubsub, a message does not doom open writes", ""},
	{"H3, PubSub: a nonce is good for one echo", "internal/flights/flights.go",
		"case known && state == confirmed:\n\t\t\tdelete(s.nonces, nonce)", "case known && state == confirmed:"},
	{"H3, PubSub: the resume forgets all nonces", "internal/flights/flights.go",
		"clear(s.nonces) // a write that", "// a write that"},
	{"H3, Tracking: a second push keeps a write out", "internal/flights/flights.go",
		"w.pushes <= 1", "w.pushes <= 2"},
	{"H4: a write of unknown end has no nonce", "internal/flights/flights.go",
		"if ok && state == pending {", "if state == pending {"},
	{"H6: a cut empties the tier", "internal/flights/flights.go",
		"held := t.each(cut, func(s *shard[K, V]) { s.live = false })", "var held *tier.Taken[K, V]\n\tfor i := range t.shards {\n\t\tt.shards[i].live = false\n\t}"},
	{"H7: a cut detaches the open fills", "internal/flights/flights.go",
		"ks.detach() // Mod" + "el: pubsub, cut: open fills go on", ""},
	{"H7: a cut dooms the open writes", "internal/flights/flights.go",
		"ks.doom()   // Mod" + "el: pubsub, cut: open writes go on", ""},
	{"H8: a fill sent while cut stores nothing", "internal/flights/flights.go",
		"f.attached = s.live && s.clearing == 0", "f.attached = s.clearing == 0"},
	{"H8: a write begun while cut stores nothing", "internal/flights/flights.go",
		"if !s.live || s.clearing > 0 {", "if s.clearing > 0 {"},
	{"H12: a write takes its entry out at its beginning", "internal/flights/flights.go",
		"w.held = t.remove(key) // now", "w.held = t.tier.Peek(key) != nil // now"},
	{"H12: a write detaches the fill at its beginning", "internal/flights/flights.go",
		"ks.fills.detach() // Model", "// Model"},
	{"H12: a fill sent beside an open write is detached", "internal/flights/flights.go",
		"s.clearing == 0 && len(ks.writes) == 0", "s.clearing == 0"},
	{"H12: a detached fill looks again", "internal/flights/flights.go",
		"r = t.lookAgain(ks, f, r)", ""},
	{"H12: a detached fill that is shown dooms the open writes", "internal/flights/flights.go",
		"t.remove(f.key)\n\tks.doom()\n\treturn r", "t.remove(f.key)\n\treturn r"},
	{"H12: a join passes the test of a hit", "internal/flights/flights.go",
		"l.sent.attached && t.leased() ||", "l.sent.attached ||"},
	{"H13: the lease counts from a probe's sending", "invalidate/stream.go",
		"s.lease.grant(sent)", "s.lease.grant(s.cfg.now())"},
	{"H13: the tier serves under the lease only", "internal/flights/flights.go",
		"t.clock.Ahead(e.Deadline, until) {\n\t\treturn e", "t.clock.Exact() < e.Deadline {\n\t\t_ = until\n\t\treturn e"},
	// The clock is read once more where a process may be stopped.
	{"H14: a hit loads the lease's end before the entry", "internal/flights/flights.go",
		"until := t.Until()\n\tif e := t.tier.Load(key); e != nil && t", "e := t.tier.Load(key)\n\tt.clock.Exact()\n\tuntil := t.Until()\n\tif e != nil && t"},
	{"H14: a hit reads the clock last", "internal/flights/flights.go",
		"if e := t.tier.Load(key); e != nil && t.clock.Ahead(e.Deadline, until) {", "now := t.clock.Exact()\n\tt.clock.Exact()\n\tif e := t.tier.Load(key); e != nil && now < e.Deadline && now < until {"},
	{"H23: an entry ends at its deadline", "internal/flights/flights.go",
		"t.clock.Ahead(e.Deadline, until) {\n\t\treturn e", "t.clock.Ahead(clock.Never, until) {\n\t\treturn e"},
	{"Acked: the writer waits", "invalidate/ack.go",
		"if len(q.waiting) == 0 {", "if true {"},
	{"Acked: it waits until the lease of who is silent is over", "invalidate/ack.go",
		"q.until[m.ID] = replied + patienceFor(m.Lease)", "q.until[m.ID] = replied + patienceFor(m.Lease)/3"},
	{"Acked: the floor, where a failover may have lost members", "invalidate/ack.go",
		"if floor {", "if false {"},
	{"H12: what a fill shows and may not keep leaves no older entry", "internal/flights/flights.go",
		"case !f.stored: //", "case false: //"},
	{"a fill that fails sends the waiting one", "internal/flights/flights.go",
		"} else if next != nil {", "} else if next != nil && r.Err == nil {"},
}

// The simulation is worth nothing if it does not miss what is taken out. Without
// -sim.removed only the list is checked.
func TestSimulationMissesEachDefence(t *testing.T) {
	dir := t.TempDir()
	found := regexp.MustCompile(`after (\d+) steps, seed[^\n]*\n[^\n]*\n\s*([^\n]*)\n\s*(\d+) of`)
	for _, d := range simDefences {
		if !strings.Contains(d.name, *simOnly) {
			continue
		}
		t.Run(d.name, func(t *testing.T) {
			path, err := filepath.Abs(filepath.Join("..", d.file))
			if err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(text), d.old); n != 1 {
				t.Fatalf("%s: what is to be taken out is there %d times", d.file, n)
			}
			if !*simRemoved {
				return // long: make simulate-defences
			}
			changed, overlay := filepath.Join(dir, "changed.go"), filepath.Join(dir, "overlay.json")
			if err := os.WriteFile(changed, []byte(strings.Replace(string(text), d.old, d.new, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
			m, err := json.Marshal(map[string]any{"Replace": map[string]string{path: changed}})
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(overlay, m, 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command("go", "test", "-vet=off", "-overlay", overlay, "-run", "^TestSimulation$", ".", "-sim.seed=1", "-sim.steps=20000000").CombinedOutput()
			if a := found.FindStringSubmatch(string(out)); err != nil && a != nil {
				t.Logf("after %s steps, %s steps are enough: %s", a[1], a[3], a[2])
			} else {
				t.Errorf("not missed: %v\n%.2000s", err, out)
			}
		})
	}
}
