package main

import (
	"bytes"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// slice returns what of a package's tests is needed to run those that match run: by
// file, its text, "" where nothing of it is needed. To compile all of a package's
// tests can take longer than to run all its mutants.
//
// It goes by names alone, and rather takes too much: what is declared is needed if
// something needed mentions its name, methods with their type.
func slice(dir, run string) (map[string]string, error) {
	top, _, _ := strings.Cut(run, "/")
	wanted, err := regexp.Compile(top)
	if err != nil {
		return nil, err
	}
	names, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		return nil, err
	}
	set := token.NewFileSet()
	var files []*sliced
	declared := make(map[string][]*decl) // by name, and methods by their type's
	var todo []*decl
	for _, name := range names {
		if ok, err := build.Default.MatchFile(dir, filepath.Base(name)); err != nil || !ok {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		f, err := parser.ParseFile(set, name, text, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		s := &sliced{name: name, text: text, file: f}
		files = append(files, s)
		for _, d := range f.Decls {
			one := &decl{Decl: d, in: s}
			for _, name := range namesOf(d) {
				declared[name] = append(declared[name], one)
				isTest := strings.HasPrefix(name, "Test") || strings.HasPrefix(name, "Fuzz")
				if name == "TestMain" || name == "init" || name == "_" || isTest && wanted.MatchString(name) {
					todo = append(todo, one)
				}
			}
		}
	}
	for len(todo) > 0 {
		d := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if d.needed {
			continue
		}
		d.needed = true
		d.in.needed = append(d.in.needed, d)
		ast.Inspect(d.Decl, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok {
				todo = append(todo, declared[id.Name]...)
			}
			return true
		})
	}
	texts := make(map[string]string)
	for _, s := range files {
		texts[s.name] = s.slice(set)
	}
	return texts, nil
}

type decl struct {
	ast.Decl
	in     *sliced
	needed bool
}

type sliced struct {
	name   string
	text   []byte
	file   *ast.File
	needed []*decl
}

// namesOf returns what d declares; of a method its own name and its type's.
func namesOf(d ast.Decl) (names []string) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Recv == nil {
			return []string{d.Name.Name}
		}
		names = []string{d.Name.Name}
		ast.Inspect(d.Recv.List[0].Type, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok && len(names) == 1 {
				names = append(names, id.Name)
			}
			return true
		})
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				names = append(names, spec.Name.Name)
			case *ast.ValueSpec:
				for _, id := range spec.Names {
					names = append(names, id.Name)
				}
			}
		}
	}
	return names
}

// slice returns the text of what is needed, with the imports that it uses.
func (s *sliced) slice(set *token.FileSet) string {
	if len(s.needed) == 0 {
		return ""
	}
	offset := func(p token.Pos) int { return set.Position(p).Offset }
	var out bytes.Buffer
	out.WriteString("package " + s.file.Name.Name + "\n\n")
	used := make(map[string]bool)
	for _, d := range s.needed {
		ast.Inspect(d.Decl, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok {
				if id, ok := sel.X.(*ast.Ident); ok {
					used[id.Name] = true
				}
			}
			return true
		})
	}
	for _, i := range s.file.Imports {
		at := strings.Trim(i.Path.Value, `"`)
		name := path.Base(at)
		if regexp.MustCompile(`^v\d+$`).MatchString(name) {
			name = path.Base(path.Dir(at))
		}
		if i.Name != nil {
			name = i.Name.Name
		}
		if used[name] || name == "_" || name == "." {
			out.WriteString("import " + string(s.text[offset(i.Pos()):offset(i.End())]) + "\n")
		}
	}
	for _, d := range s.needed {
		out.WriteString("\n" + string(s.text[offset(d.Pos()):offset(d.End())]) + "\n")
	}
	return out.String()
}
