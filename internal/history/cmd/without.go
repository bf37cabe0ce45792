//go:build unix

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// A defence is a rule of the library that can be taken out: one line of its code, known
// by what it holds, and what stands there then. What is built so shows that the checker
// sees what the rule is for.
type defence struct {
	name   string
	seenIn string // the variant that breaks without it
	chaos  bool   // under faults
	file   string
	holds  string // of the line
	then   string // instead of it
}

var defences = []defence{
	{"a message detaches the fill (H1)", "pubsub+acked", true, "internal/flights/flights.go",
		"pubsub, a message does not detach the fill", ""},
	{"a push detaches the fill (H1)", "tracking+acked", true, "internal/flights/flights.go",
		"tracking, a fill enters whatever was pushed", ""},
	{"a cut empties the tier (H6)", "tracking+lease", true, "internal/flights/flights.go",
		"pubsub, cut: the tier is not emptied", "return nil"},
	{"a hit looks at the lease (H13)", "pubsub+lease", true, "internal/flights/flights.go",
		"func (t *Table[K, V]) Until() int64 {", "func (t *Table[K, V]) Until() int64 { return clock.Never }"},
	{"who acknowledges is waited for", "tracking+acked", true, "invalidate/ack.go",
		"lease, ack: nobody waits", "return nil"},
	{"Update compares what is there (H28)", "pubsub", false, "hybrid/atomic.go",
		"if ARGV[3] ~= '1' or now ~= ARGV[4] then return {0, now} end", ""},
}

func defenceNamed(name string) (defence, error) {
	for _, d := range defences {
		if strings.Contains(d.name, name) {
			return d, nil
		}
	}
	return defence{}, fmt.Errorf("-without: no defence is called %q", name)
}

// takenOutOf returns the code without d.
func (d defence) takenOutOf(code string) (string, error) {
	before, after, found := strings.Cut(code, d.holds)
	if !found || strings.Contains(after, d.holds) {
		return "", fmt.Errorf("%s does not hold %q once: mend the list of defences", d.file, d.holds)
	}
	_, after, _ = strings.Cut(after, "\n")
	return before[:strings.LastIndex(before, "\n")+1] + d.then + "\n" + after, nil
}

// build returns the path of this command, built without d, in dir.
func (d defence) build(ctx context.Context, dir string) (string, error) {
	binary := filepath.Join(dir, "check")
	return binary, d.compile(ctx, dir, "-o", binary, "./internal/history/cmd")
}

// compile has go build do what args say with the code without d, which dir is for. The
// tree is left as it is.
func (d defence) compile(ctx context.Context, dir string, args ...string) error {
	out, err := exec.CommandContext(ctx, "go", "list", "-f", "{{.Module.Dir}}", "github.com/flipcache/flipcache/hybrid").Output()
	if err != nil {
		return fmt.Errorf("where is the library? %w", err)
	}
	root := strings.TrimSpace(string(out))
	path := filepath.Join(root, d.file)
	code, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	without, err := d.takenOutOf(string(code))
	if err != nil {
		return err
	}
	changed := filepath.Join(dir, "changed.go")
	if err := os.WriteFile(changed, []byte(without), 0o600); err != nil {
		return err
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{path: changed}})
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, overlay, 0o600); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", append([]string{"build", "-overlay", file}, args...)...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("without %q: %w\n%s", d.name, err, out)
	}
	return nil
}

// seeds is how many are tried until the absence of a defence is found out: faults fall
// together as the machine will have it.
const seeds = 3

// run has the command that was built without d check what args ask for, with seed and
// those after it.
func (d defence) run(ctx context.Context, args []string, seed uint64) (rows []row, err error) {
	dir, err := os.MkdirTemp("", "flipcache-without-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	binary, err := d.build(ctx, dir)
	if err != nil {
		return nil, err
	}
	operations := 0
	for s := range uint64(seeds) {
		cmd := exec.CommandContext(ctx, binary, append(args, "-json", "-seed", strconv.FormatUint(seed+s, 10))...)
		var log strings.Builder
		cmd.Stderr = &log
		out, err := cmd.Output()
		var exit *exec.ExitError
		if err != nil && !(errors.As(err, &exit) && exit.ExitCode() == exitBroken) {
			return nil, fmt.Errorf("without %q: %w\n%s", d.name, err, log.String())
		}
		if err := json.Unmarshal(out, &rows); err != nil || len(rows) != 1 {
			return nil, fmt.Errorf("without %q: %w: %.200s", d.name, err, out)
		}
		r := &rows[0]
		operations += r.Operations
		if r.Operations, r.Without = operations, d.name; len(r.Broken) > 0 {
			break
		}
	}
	return rows, nil
}
