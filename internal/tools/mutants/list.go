package main

import (
	"embed"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

//go:embed list/*.txt
var lists embed.FS

// A Mutant is a change of the code that a test has to notice.
type Mutant struct {
	Name     string
	At       string // list and line where it stands
	Hazards  []string
	Rules    []string
	Models   []string
	Tests    []Test
	Edits    []Edit
	Tries    int // how often the tests are run, at most; at least 1
	Race     bool
	Survives string // why; empty: it has to be killed
}

// A Test is what has to fail.
type Test struct {
	Package string // folder, relative to the root
	Run     string // as go test's -run takes it
}

func (t Test) String() string { return t.Package + " " + t.Run }

// An Edit is one change of one file: whole lines.
type Edit struct {
	File     string
	Old, New []string
}

// A List is all mutants, and why a hazard has none.
type List struct {
	Mutants []*Mutant
	None    map[string]string // by hazard
}

// readLists reads what is embedded.
func readLists() (*List, error) {
	all := &List{None: make(map[string]string)}
	names, err := fs.Glob(lists, "list/*.txt")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		text, err := lists.ReadFile(name)
		if err != nil {
			return nil, err
		}
		if err := all.read(filepath.Base(name), string(text)); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// read adds what stands in text.
func (l *List) read(name, text string) error {
	var m *Mutant
	for i, line := range strings.Split(text, "\n") {
		at := fmt.Sprintf("%s:%d", name, i+1)
		if title, ok := strings.CutPrefix(line, "== "); ok {
			if slices.ContainsFunc(l.Mutants, func(m *Mutant) bool { return m.Name == title }) {
				return fmt.Errorf("%s: a second mutant %q", at, title)
			}
			m = &Mutant{Name: title, At: at, Tries: 1}
			l.Mutants = append(l.Mutants, m)
			continue
		}
		if none, ok := strings.CutPrefix(line, "no mutant: "); ok {
			hazard, reason, ok := strings.Cut(none, " ")
			if !ok {
				return fmt.Errorf("%s: no reason", at)
			}
			l.None[hazard] = reason
			continue
		}
		if m == nil || line == "" {
			continue
		}
		if err := m.line(line); err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
	}
	for _, m := range l.Mutants {
		if len(m.Tests) == 0 || len(m.Edits) == 0 || len(m.Hazards)+len(m.Rules) == 0 {
			return fmt.Errorf("%s: %q lacks its test, its change, or its hazard or rule", m.At, m.Name)
		}
	}
	return nil
}

// line takes one line of m in.
func (m *Mutant) line(line string) (err error) {
	if n := len(m.Edits); n > 0 && strings.ContainsRune("-+ ", rune(line[0])) {
		e := &m.Edits[n-1]
		if line[0] != '+' {
			e.Old = append(e.Old, line[1:])
		}
		if line[0] != '-' {
			e.New = append(e.New, line[1:])
		}
		return nil
	}
	key, value, ok := strings.Cut(line, ": ")
	if !ok {
		return fmt.Errorf("%q is neither a key with a value nor a line of a change", line)
	}
	switch key {
	case "hazard":
		m.Hazards = strings.Fields(value)
	case "rule":
		m.Rules = strings.Fields(value)
	case "model":
		m.Models = append(m.Models, value)
	case "survives":
		m.Survives = value
	case "race":
		m.Race = true
	case "tries":
		m.Tries, err = strconv.Atoi(value)
	case "test":
		pkg, run, _ := strings.Cut(value, " ")
		if _, err := regexp.Compile(run); err != nil {
			return err
		}
		m.Tests = append(m.Tests, Test{pkg, run})
	case "file":
		if !strings.HasSuffix(value, ".go") || strings.HasSuffix(value, "_test.go") {
			return fmt.Errorf("%s holds no defence", value)
		}
		m.Edits = append(m.Edits, Edit{File: value})
	default:
		return fmt.Errorf("unknown key %q", key)
	}
	return err
}

// apply returns the files that m changes, as they are with it. root is where the
// library's go.mod is.
func (m *Mutant) apply(root string) (map[string]string, error) {
	files := make(map[string]string)
	for _, e := range m.Edits {
		text, ok := files[e.File]
		if !ok {
			data, err := os.ReadFile(filepath.Join(root, e.File))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", m.At, err)
			}
			text = string(data)
		}
		before := "\n" + strings.Join(e.Old, "\n") + "\n"
		switch n := count(text, before); {
		case len(e.Old) == 0:
			return nil, fmt.Errorf("%s: %q says nothing of where in %s", m.At, m.Name, e.File)
		case n != 1:
			return nil, fmt.Errorf("%s: the text of %q stands %d times in %s, not once: adapt the mutant to the code\n%s", m.At, m.Name, n, e.File, strings.Trim(before, "\n"))
		}
		after := "\n"
		if len(e.New) > 0 {
			after += strings.Join(e.New, "\n") + "\n"
		}
		files[e.File] = strings.Replace(text, before, after, 1)
	}
	return files, nil
}

// count is strings.Count, also of what overlaps.
func count(text, part string) (n int) {
	for {
		i := strings.Index(text, part)
		if i < 0 {
			return n
		}
		n++
		text = text[i+1:]
	}
}
