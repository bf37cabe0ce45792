package main

import (
	"os"
	"path/filepath"
	"testing"
)

// A tree with one function, whose tests see one thing of it and not another.
var tree = map[string]string{
	"go.mod": "module m\n\ngo 1.25.0\n",
	"p/p.go": `package p

func Abs(x int) int {
	if x < 0 {
		return -x
	}
	return x
}
`,
	"p/p_test.go": `package p

import (
	"math"
	"testing"
)

func TestNegative(t *testing.T) {
	if got := Abs(-two); got != 2 {
		t.Errorf("got %d", got)
	}
}

func TestOthers(t *testing.T) { _ = math.Pi }

func TestSkipped(t *testing.T) { t.Skip() }
`,
	"p/help_test.go": "package p\n\nimport \"strconv\"\n\nconst two = 2\n\nvar _ = strconv.Itoa\n",
	"p/more_test.go": "package p\n\nimport \"os\"\n\nfunc unused() { os.Exit(3) }\n",
}

func TestVerdicts(t *testing.T) {
	dir := t.TempDir()
	for name, text := range tree {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("GOWORK", "off")
	r := &runner{root: dir, temp: t.TempDir()}
	for _, test := range []struct {
		name, run, instead, survives, want string
		bad                                bool
	}{
		{"a mutant that is seen", "TestNegative", "\treturn x", "", "killed", false},
		{"one that the test does not look at", "TestOthers", "\treturn x", "", "SURVIVED", true},
		{"one that survives as said", "TestOthers", "\treturn x", "nobody looks", "survives", false},
		{"one that is seen although it survives, as said", "TestNegative", "\treturn x", "nobody looks", "KILLED", true},
		{"one that does not compile", "TestNegative", "\treturn y", "", "ERROR", true},
		{"a test that is not there", "TestNothing", "\treturn x", "", "ERROR", true},
		{"a test that is skipped", "TestSkipped", "\treturn x", "", "ERROR", true},
		{"a test that panics", "TestNegative", "\tpanic(x)", "", "killed", false},
	} {
		m := &Mutant{Name: test.name, Tests: []Test{{"p", "^" + test.run + "$"}}, Tries: 1, Survives: test.survives,
			Edits: []Edit{{File: "p/p.go", Old: []string{"\t\treturn -x"}, New: []string{"\t" + test.instead}}}}
		if v := r.judge(t.Context(), m); v.what != test.want || v.bad != test.bad {
			t.Errorf("%s: %s, bad %t, want %s\n%s", test.name, v.what, v.bad, test.want, v.output)
		}
	}
	m := &Mutant{Tests: []Test{{"p", "TestNegative"}}, Edits: []Edit{{File: "p/p.go", Old: []string{"gone"}}}}
	if v := r.judge(t.Context(), m); v.what != "ERROR" || !v.bad {
		t.Errorf("a text that is gone: %+v", v)
	}
	if err := r.unchanged(t.Context(), []*Mutant{{Tests: []Test{{"p", "TestNegative"}}}}, 1); err != nil {
		t.Error(err)
	}
	if err := r.unchanged(t.Context(), []*Mutant{{Tests: []Test{{"p", "TestSkipped"}}}}, 1); err == nil {
		t.Error("a test that is skipped passes for one that proves something")
	}
}

func TestByGivesAMutantAnotherTest(t *testing.T) {
	m := &Mutant{Tests: []Test{{"p", "TestOthers"}}, Race: true, Survives: "nobody looks"}
	if err := m.killedBy("q TestNegative|TestZero"); err != nil || len(m.Tests) != 1 || m.Tests[0] != (Test{"q", "TestNegative|TestZero"}) || m.Race || m.Survives != "" {
		t.Errorf("got %+v, %v", m, err)
	}
	if err := m.killedBy("TestNegative"); err == nil {
		t.Error("a test without its package is accepted")
	}
}
