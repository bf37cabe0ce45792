package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const root = "../../.."

func embedded(t *testing.T) *List {
	t.Helper()
	l, err := readLists()
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Mutants) == 0 {
		t.Fatal("the list is empty")
	}
	return l
}

// Each mutant's text is in the code, once; each of its tests is there.
func TestListFitsTheCode(t *testing.T) {
	for _, m := range embedded(t).Mutants {
		files, err := m.apply(root)
		if err != nil {
			t.Error(err)
		}
		for _, test := range m.Tests {
			names, err := testsOf(filepath.Join(root, test.Package))
			if err != nil {
				t.Fatal(err)
			}
			top, _, _ := strings.Cut(test.Run, "/")
			if !slices.ContainsFunc(names, regexp.MustCompile(top).MatchString) {
				t.Errorf("%s: there is no test %s", m.At, test)
			}
		}
		for name, text := range files {
			if before, err := os.ReadFile(filepath.Join(root, name)); err != nil || string(before) == text {
				t.Errorf("%s: it changes nothing in %s, %v", m.At, name, err)
			}
		}
	}
}

// testsOf returns the names of the tests in dir.
func testsOf(dir string) (names []string, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		for _, m := range regexp.MustCompile(`(?m)^func (Test\w+|Fuzz\w+)\(`).FindAllSubmatch(text, -1) {
			names = append(names, string(m[1]))
		}
	}
	return names, err
}

// Each hazard has a mutant that is killed, or a reason why it has none.
func TestEveryHazardHasAMutant(t *testing.T) {
	l := embedded(t)
	killed := make(map[string]bool)
	for _, m := range l.Mutants {
		for _, h := range m.Hazards {
			if m.Survives == "" {
				killed[h] = true
			}
			if l.None[h] != "" {
				t.Errorf("%s: %s has a mutant, and a reason to have none", m.At, h)
			}
			if !regexp.MustCompile(`^H[0-9]+$`).MatchString(h) {
				t.Errorf("%s: %q is no hazard", m.At, h)
			}
		}
	}
	for i := 1; i <= 37; i++ {
		if h := fmt.Sprintf("H%d", i); !killed[h] && l.None[h] == "" {
			t.Errorf("%s has no mutant, and no reason", h)
		}
	}
}

// Each rule of the table of flights has a mutant, and those of what is around it.
func TestEveryRuleHasAMutant(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "internal/flights/flights.go"))
	if err != nil {
		t.Fatal(err)
	}
	rules := []string{"Probe", "Ack", "Token", "Audit", "Breaker", "Close"}
	for _, m := range regexp.MustCompile(`(?m)^//\t(\w+(?:, \w+)*)  +\S`).FindAllSubmatch(text, -1) {
		rules = append(rules, strings.Split(string(m[1]), ", ")...)
	}
	if len(rules) != 17 {
		t.Errorf("the rules are %q: is the test blind?", rules)
	}
	has := make(map[string]bool)
	for _, m := range embedded(t).Mutants {
		for _, r := range m.Rules {
			if !slices.Contains(rules, r) {
				t.Errorf("%s: %q is no rule", m.At, r)
			}
			has[r] = has[r] || m.Survives == ""
		}
	}
	for _, r := range rules {
		if !has[r] {
			t.Errorf("the rule %s has no mutant that is killed", r)
		}
	}
}

// Each variant of the models that the code names beside a rule is a mutant, too.
func TestEveryModelNamedInTheCodeHasAMutant(t *testing.T) {
	has := make(map[string]bool)
	for _, m := range embedded(t).Mutants {
		for _, name := range m.Models {
			has[name] = has[name] || m.Survives == ""
		}
	}
	named := make(map[string]bool)
	for _, dir := range []string{"hybrid", "invalidate", "internal/flights"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			for line := range strings.Lines(string(text)) {
				if _, name, ok := strings.Cut(line, "// "+"Model: "); ok {
					named[strings.TrimSpace(name)] = true
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for name := range named {
		if !has[name] {
			t.Errorf("the code names %q, and no mutant does that is killed", name)
		}
	}
	for name := range has {
		if !named[name] {
			t.Errorf("a mutant names %q, and the code does not", name)
		}
	}
	if len(named) == 0 {
		t.Error("nothing is named: is the test blind?")
	}
}

func TestListThatIsWrongIsRefused(t *testing.T) {
	const good = "== a\nhazard: H1\ntest: p TestA\nfile: f.go\n-x\n"
	for name, text := range map[string]string{
		"a name twice":   good + good,
		"no test":        strings.Replace(good, "test: p TestA\n", "", 1),
		"no change":      "== a\nhazard: H1\ntest: p TestA\n",
		"no hazard":      strings.Replace(good, "hazard: H1\n", "", 1),
		"an unknown key": strings.Replace(good, "hazard", "hazzard", 1),
		"a wrong -run":   strings.Replace(good, "TestA", "TestA(", 1),
		"no number":      strings.Replace(good, "hazard", "tries: many\nhazard", 1),
		"no reason":      "no mutant: H1\n",
		"no key":         "== a\nx\n",
		"a test's file":  strings.Replace(good, "f.go", "f_test.go", 1),
		"no Go file":     strings.Replace(good, "f.go", "f.txt", 1),
	} {
		if err := (&List{None: map[string]string{}}).read("x", text); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := (&List{None: map[string]string{}}).read("x", "a comment\n\n"+good+"\nno mutant: H2 it is so\n"); err != nil {
		t.Error(err)
	}
}

func TestTextThatIsNotThereOnceIsAnError(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f.go"), []byte("package f\n\tonce\ntwice\ntwice\nend\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for old, want := range map[string]bool{"\tonce": true, "once": false, "twice": false, "nowhere": false, "twice\nend": true} {
		m := &Mutant{Edits: []Edit{{File: "f.go", Old: strings.Split(old, "\n"), New: []string{"new"}}}}
		files, err := m.apply(dir)
		if (err == nil) != want {
			t.Errorf("%q: %v", old, err)
		}
		if want && !strings.Contains(files["f.go"], "\nnew\n") {
			t.Errorf("%q: %q", old, files["f.go"])
		}
	}
	m := &Mutant{Edits: []Edit{{File: "f.go", Old: []string{"\tonce"}}, {File: "f.go", Old: []string{"end"}, New: []string{"new"}}}}
	if files, err := m.apply(dir); err != nil || files["f.go"] != "package f\ntwice\ntwice\nnew\n" {
		t.Errorf("two places: %q, %v", files["f.go"], err)
	}
}
