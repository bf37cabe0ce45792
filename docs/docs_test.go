// Package docs holds the documentation; its test keeps the code in it honest.
package docs

import (
	"go/doc/comment"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Every Go block of the README, of this folder and of comments stands, line by
// line, in a file that is compiled and run.
func TestGoBlocksAreTestedCode(t *testing.T) {
	var sources []string
	walk(t, "..", ".go", func(path, text string) { sources = append(sources, normal(text)) })
	blocks := 0
	check := func(path, text string) {
		parts := strings.Split(text, "```go\n")
		for _, p := range parts[1:] {
			block, _, closed := strings.Cut(p, "```")
			if !closed {
				t.Errorf("%s: a Go block has no end", path)
				continue
			}
			blocks++
			found := false
			for _, s := range sources {
				if strings.Contains(s, normal(block)) {
					found = true
					break
				}
			}
			if !found {
				t.Errorf("%s: this block is in no Go file of the project:\n%s", path, block)
			}
		}
	}
	walk(t, ".", ".md", check)
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	check("README.md", string(readme))
	walk(t, "..", ".go", func(path, text string) {
		f, err := parser.ParseFile(token.NewFileSet(), path, text, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, group := range f.Comments {
			for _, block := range new(comment.Parser).Parse(group.Text()).Content {
				if code, ok := block.(*comment.Code); ok && strings.Contains(code.Text, ":=") {
					check(path, "```go\n"+code.Text+"```")
				}
			}
		}
	})
	if blocks == 0 {
		t.Error("no Go block was found: is the test blind?")
	}
}

// normal drops indentation, alignment and empty lines, which differ between a
// document and a function's body.
func normal(s string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		if line = strings.Join(strings.Fields(line), " "); line != "" {
			b.WriteString(line)
			b.WriteByte('\n')
		}
	}
	return b.String()
}

func walk(t *testing.T, root, suffix string, f func(path, text string)) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, suffix) {
			return err
		}
		b, err := os.ReadFile(path)
		f(path, string(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Every "Model: name, variant" in the code names a variant that is explored, and
// is expected to break.
func TestModelsNamedInTheCodeAreExplored(t *testing.T) {
	table, err := os.ReadFile("model/variants.txt")
	if err != nil {
		t.Fatal(err)
	}
	breaks := make(map[string]bool)
	for line := range strings.Lines(string(table)) {
		if f := strings.Split(line, "|"); len(f) > 5 && strings.TrimSpace(f[2]) == "violated" {
			breaks[strings.TrimSpace(f[0])+", "+strings.TrimSpace(f[5])] = true
		}
	}
	named := 0
	walk(t, "..", ".go", func(path, text string) {
		if strings.HasSuffix(path, "_test.go") { // which may quote one
			return
		}
		for line := range strings.Lines(text) {
			if _, name, ok := strings.Cut(line, "// "+"Model: "); ok {
				if named++; !breaks[strings.TrimSpace(name)] {
					t.Errorf("%s: %q is no variant of model/variants.txt that breaks", path, strings.TrimSpace(name))
				}
			}
		}
	})
	if named == 0 || len(breaks) == 0 {
		t.Error("nothing is named, or nothing explored: is the test blind?")
	}
}
