//go:build unix

package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// print writes a row for each trial, and what was broken against expectation.
func print(w io.Writer, o options, rows []row) error {
	fmt.Fprintf(w, "%d processes with %d clients each, seed %d\n", o.workers, o.clients, o.seed)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "variant\tfaults\toperations\treads\twrites\tunknown\tfailed\tkeys\tpieces\toldest read\tverdict\t")
	operations, kept := 0, 0
	var controls []row
	for _, r := range rows {
		if r.expectsBroken() {
			controls = append(controls, r)
			continue
		}
		faults := "no"
		if r.Faults {
			faults = "yes"
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%v\t%s\t\n", r.Variant, faults, r.Operations, r.Reads, r.Writes, r.Unknown, r.Failed,
			r.Registers, r.Pieces, r.Oldest.Round(100*time.Microsecond), verdict(r))
		operations += r.Operations
		kept += len(r.Broken)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "%d operations, %d broken promises\n", operations, kept)
	if len(controls) > 0 {
		fmt.Fprintln(w, "\nWhat must be found out:")
		fmt.Fprintln(t, "variant\tfaults\toperations\tfound\tchanged\t")
	}
	for _, r := range controls {
		what := "without: " + r.Without
		if r.As != "" {
			what = "judged as " + r.As
		}
		found := "NOTHING"
		if len(r.Broken) > 0 {
			found = fmt.Sprint(len(r.Broken), ", ", r.Broken[0].Broken)
		}
		fmt.Fprintf(t, "%s\t%t\t%d\t%s\t%s\t\n", r.Variant, r.Faults, r.Operations, found, what)
	}
	err := t.Flush()
	const shown = 5
	for _, r := range rows {
		for _, v := range r.Broken[:min(shown, len(r.Broken))] {
			if len(rows) == 1 || !r.expectsBroken() {
				fmt.Fprintf(w, "\n%s, %v\n  picture: %s\n", r.Variant, v, v.HTML)
			}
		}
	}
	return err
}

func verdict(r row) string {
	switch {
	case len(r.Broken) > 0:
		return fmt.Sprintf("BROKEN %d times", len(r.Broken))
	case r.Undecided > 0:
		return fmt.Sprintf("%d UNDECIDED", r.Undecided)
	}
	return "holds"
}
