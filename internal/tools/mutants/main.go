package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

func main() {
	match := flag.String("run", "", "only mutants whose name, hazard, rule or file match this regular expression")
	workers := flag.Int("j", 2, "how many are built and run at a time")
	trust := flag.Bool("trust", false, "take it that every test passes where nothing is changed")
	by := flag.String("by", "", "a package and a test in it, instead of the tests that the list names: what survives that is no error")
	verbose := flag.Bool("v", false, "print what failing tests print")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ok, err := mutate(ctx, *match, *by, *workers, *trust, *verbose)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

// A verdict is what came of a mutant.
type verdict struct {
	m      *Mutant
	what   string // killed, SURVIVED, ...
	bad    bool   // the run fails
	by     Test
	took   time.Duration
	output string
}

// mutate runs those mutants that match, prints a line for each, and says whether all
// is as the list says.
func mutate(ctx context.Context, match, by string, workers int, trust, verbose bool) (ok bool, err error) {
	list, err := readLists()
	if err != nil {
		return false, err
	}
	re, err := regexp.Compile(match)
	if err != nil {
		return false, err
	}
	root, err := findRoot()
	if err != nil {
		return false, err
	}
	temp, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(temp)
	r := &runner{root: root, temp: temp}
	mutants := slices.DeleteFunc(list.Mutants, func(m *Mutant) bool {
		return !re.MatchString(m.Name) && !slices.ContainsFunc(slices.Concat(m.Hazards, m.Rules), re.MatchString) &&
			!slices.ContainsFunc(m.Edits, func(e Edit) bool { return re.MatchString(e.File) })
	})
	if len(mutants) == 0 {
		return false, errors.New("no mutant matches")
	}
	if by != "" {
		for _, m := range mutants {
			if err := m.killedBy(by); err != nil {
				return false, err
			}
		}
	}
	began := time.Now()
	if !trust {
		if err := r.unchanged(ctx, mutants, workers); err != nil {
			return false, err
		}
		fmt.Printf("unchanged, every test passes (%v)\n", time.Since(began).Round(time.Second))
	}

	verdicts := make(chan verdict)
	go func() {
		each(workers, mutants, func(m *Mutant) { verdicts <- r.judge(ctx, m) })
		close(verdicts)
	}()
	var all []verdict
	for v := range verdicts {
		all = append(all, v)
		fmt.Printf("%4d/%d  %-9s %5.1fs  %s\n", len(all), len(mutants), v.what, v.took.Seconds(), v.m.Name)
		if v.bad && by == "" || verbose {
			fmt.Println(indent(v.output))
		}
	}
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	return table(list, all, time.Since(began)) || by != "", nil
}

// killedBy has one test be that of m, of which it is not known whether it kills m.
func (m *Mutant) killedBy(test string) error {
	pkg, run, found := strings.Cut(test, " ")
	if !found {
		return fmt.Errorf("-by %q: a package and a test are wanted, as \"hybrid TestStats\"", test)
	}
	m.Tests, m.Race, m.Survives = []Test{{pkg, run}}, false, ""
	return nil
}

// each calls f with each of all, so many at a time.
func each[T any](workers int, all []T, f func(T)) {
	next := make(chan T)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for x := range next {
				f(x)
			}
		})
	}
	for _, x := range all {
		next <- x
	}
	close(next)
	wg.Wait()
}

// unchanged checks that the tests of mutants pass without them: else their failing
// proves nothing.
func (r *runner) unchanged(ctx context.Context, mutants []*Mutant, workers int) error {
	type once struct {
		Test
		race bool
	}
	var tests []once
	for _, m := range mutants {
		for _, t := range m.Tests {
			if o := (once{t, m.Race}); !slices.Contains(tests, o) {
				tests = append(tests, o)
			}
		}
	}
	var mu sync.Mutex
	var errs []error
	each(workers, tests, func(o once) {
		if out, err := r.test(ctx, nil, o.Test, 1, o.race); err != nil {
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, fmt.Errorf("%s, nothing changed: %w\n%s", o.Test, err, indent(out)))
		}
	})
	return errors.Join(errs...)
}

// judge runs the tests of m.
func (r *runner) judge(ctx context.Context, m *Mutant) verdict {
	v := verdict{m: m, what: "killed"}
	began := time.Now()
	files, err := m.apply(r.root)
	for _, t := range m.Tests {
		if err == nil {
			v.by = t
			v.output, err = r.test(ctx, files, t, m.Tries, m.Race)
			if err == nil {
				v.what, v.bad = "SURVIVED", m.Survives == ""
				if !v.bad {
					v.what = "survives"
				}
				break
			}
		}
		if !errors.Is(err, errTest) {
			v.what, v.bad, v.output = "ERROR", true, err.Error()
			break
		}
		err = nil
	}
	if v.what == "killed" && m.Survives != "" {
		v.what, v.bad, v.output = "KILLED", true, "the list says that it survives: "+m.Survives
	}
	v.took = time.Since(began)
	return v
}

// table prints all, in the order of the list, and says whether all is well.
func table(list *List, all []verdict, took time.Duration) bool {
	slices.SortFunc(all, func(a, b verdict) int { return slices.Index(list.Mutants, a.m) - slices.Index(list.Mutants, b.m) })
	fmt.Println()
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "mutant\thazard, rule\ttest\tverdict\tseconds")
	count := make(map[string]int)
	bad := 0
	for _, v := range all {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%.1f\n", v.m.Name, strings.Join(slices.Concat(v.m.Hazards, v.m.Rules), " "), v.by, v.what, v.took.Seconds())
		count[v.what]++
		if v.bad {
			bad++
		}
	}
	w.Flush()
	for _, v := range all {
		if v.what == "survives" {
			fmt.Printf("\n%s survives: %s\n", v.m.Name, v.m.Survives)
		}
	}
	fmt.Printf("\n%d mutants: %d killed, %d survive as the list says, %d not as it should be; %v\n",
		len(all), count["killed"], count["survives"], bad, took.Round(time.Second))
	return bad == 0
}

func indent(s string) string {
	const most = 40
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	if len(lines) > most {
		lines = append([]string{"..."}, lines[len(lines)-most:]...)
	}
	return "      | " + strings.Join(lines, "\n      | ")
}

// findRoot returns the folder of the library's go.mod: that of the go.work above.
func findRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(dir + "/go.work"); err == nil {
			return dir, nil
		}
		i := strings.LastIndexByte(dir, os.PathSeparator)
		if i <= 0 {
			return "", errors.New("no go.work above this folder: run it in the project's tree")
		}
		dir = dir[:i]
	}
}
