package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// limit is how long a test may run: one that hangs is killed, and with it the mutant.
const limit = 20 * time.Second

// failed is what a test prints that fails, panics or hangs.
var failed = regexp.MustCompile(`(?m)^\s*--- FAIL: |^panic: |^fatal error: `)

// A runner runs tests of mutants of the tree under root.
type runner struct {
	root string // where the library's go.mod is
	temp string
}

// errTest: what was built, and run, and failed.
var errTest = errors.New("the test fails")

// test builds the package of t with files in place of those of the tree, and runs
// the test at most tries times, until it fails. It returns nil if it never does,
// errTest with what it printed if it does, and any other error if nothing can be said.
func (r *runner) test(ctx context.Context, files map[string]string, t Test, tries int, race bool) (output string, err error) {
	dir, err := os.MkdirTemp(r.temp, "mutant")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	replaced, err := slice(filepath.Join(r.root, t.Package), t.Run)
	if err != nil {
		return "", err
	}
	for name, text := range files {
		replaced[filepath.Join(r.root, name)] = text
	}
	overlay := struct{ Replace map[string]string }{make(map[string]string)}
	for name, text := range replaced {
		changed := "" // as if it were not there
		if text != "" {
			changed = filepath.Join(dir, strconv.Itoa(len(overlay.Replace))+".go")
			if err := os.WriteFile(changed, []byte(text), 0o600); err != nil {
				return "", err
			}
		}
		overlay.Replace[name] = changed
	}
	data, err := json.Marshal(overlay)
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), data, 0o600); err != nil {
		return "", err
	}

	binary := filepath.Join(dir, "test")
	args := []string{"test", "-c", "-ldflags=-s -w", "-overlay", filepath.Join(dir, "overlay.json"), "-o", binary}
	if race {
		args = append(args, "-race")
	}
	build := exec.CommandContext(ctx, "go", append(args, "./"+t.Package)...)
	build.Dir = r.root
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("it does not compile:\n%s", out)
	}

	run := exec.CommandContext(ctx, binary, "-test.v", "-test.run", t.Run, "-test.count", strconv.Itoa(tries), "-test.failfast",
		"-test.timeout", (time.Duration(tries) * limit).String())
	run.Dir = filepath.Join(r.root, t.Package)
	var out bytes.Buffer
	run.Stdout, run.Stderr = &out, &out
	err = run.Run()
	switch output = out.String(); {
	case ctx.Err() != nil:
		return output, ctx.Err()
	case strings.Contains(output, "testing: warning: no tests to run"):
		return output, fmt.Errorf("there is no test %s", t)
	case strings.Contains(output, "--- SKIP"):
		return output, fmt.Errorf("%s is skipped", t)
	case err == nil:
		return output, nil
	case failed.MatchString(output):
		return output, errTest
	}
	return output, err
}
