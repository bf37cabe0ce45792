// Package report holds what the programs of this module that write a report
// share: the machine and the tree it comes from, and how a figure is shown.
package report

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
)

const module = "github.com/flipcache/flipcache/benchmarks"

// A Machine is where, when and on what a report was measured. An empty field is
// left out of the report.
type Machine struct {
	CPU, Cores            string
	System                string // as linux/amd64
	Go, Redis             string
	Commit                string
	Began                 time.Time
	LoadBefore, LoadAfter string
	Runs                  string // how often, and how
}

// Here returns this machine, with its load by now, and the commit of the tree
// in dir.
func Here(ctx context.Context, dir string) Machine {
	return Machine{
		CPU: cpu(ctx), Cores: strconv.Itoa(runtime.NumCPU()),
		System: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version(),
		Commit: Commit(ctx, dir), Began: time.Now(), LoadBefore: Load(),
	}
}

// Markdown returns the table that stands at the top of a report.
func (m Machine) Markdown() string {
	var b strings.Builder
	b.WriteString("| | |\n|---|---|\n")
	redis := m.Redis
	if redis != "" {
		redis += ", on loopback"
	}
	for _, row := range [][2]string{
		{"CPU", m.CPU}, {"cores", m.Cores}, {"system", m.System},
		{"Go", m.Go}, {"Redis", redis},
		{"commit", m.Commit}, {"date", m.Began.UTC().Format("2006-01-02 15:04 UTC")},
		{"load before and after", strings.Trim(m.LoadBefore+"; "+m.LoadAfter, "; ")},
		{"runs", m.Runs},
	} {
		if row[1] != "" {
			fmt.Fprintf(&b, "| %s | %s |\n", row[0], row[1])
		}
	}
	return b.String()
}

// Slug returns one name a machine, fit for a file's.
func (m Machine) Slug() string { return Slug(m.CPU + " " + m.Cores + " cores") }

// Slug returns s as small letters and digits with a dash for all else.
func Slug(s string) string {
	return strings.Trim(notWord.ReplaceAllString(strings.ToLower(s), "-"), "-")
}

var notWord = regexp.MustCompile(`[^a-z0-9]+`)

// cpu returns the processor's name, or its architecture where none is known.
func cpu(ctx context.Context) string {
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if key, name, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
				return strings.TrimSpace(name)
			}
		}
	}
	if runtime.GOOS == "darwin" {
		if name, err := Output(ctx, "", "sysctl", "-n", "machdep.cpu.brand_string"); err == nil {
			return name
		}
	}
	return runtime.GOARCH
}

// Load returns the machine's load averages, or nothing where /proc has none.
func Load() string {
	b, err := os.ReadFile("/proc/loadavg")
	if f := strings.Fields(string(b)); err == nil && len(f) >= 3 {
		return strings.Join(f[:3], " ")
	}
	return ""
}

// Commit returns what git calls the tree in dir, or nothing where it is none.
func Commit(ctx context.Context, dir string) string {
	id, err := Output(ctx, dir, "git", "describe", "--always", "--dirty", "--abbrev=12")
	if err != nil {
		return ""
	}
	return id
}

// Versions returns the versions of the modules in this program, by path.
func Versions() map[string]string {
	all := make(map[string]string)
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			all[m.Path] = m.Version
		}
	}
	return all
}

// Module returns the directory of this module, and the one below it that holds
// the reports.
func Module(ctx context.Context) (dir, results string, err error) {
	dir, err = Output(ctx, "", "go", "list", "-m", "-f", "{{.Dir}}", module)
	return dir, filepath.Join(dir, "results"), err
}

// Output runs a command in dir and returns what it prints. Where it fails, what
// it printed is in the error.
func Output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it stops its server
	cmd.WaitDelay = 10 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return "", errors.New("interrupted")
		}
		return "", fmt.Errorf("%s: %w\n%s%s", strings.Join(append([]string{name}, args...), " "), err, &stdout, &stderr)
	}
	return strings.TrimSpace(stdout.String()), nil
}

// Write writes files into dir, which it makes where it is not there.
func Write(dir string, files map[string][]byte) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}
