//go:build unix

package history

import (
	"path/filepath"
	"sync"
	"testing"
)

func TestLogHoldsWhatItsOtherSideWrote(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w, err := OpenLog(path, 100)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	r, err := OpenLog(path, 100)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var wg sync.WaitGroup
	for c := range 4 {
		wg.Go(func() {
			for i := range 20 {
				o, err := w.Begin(Op{Kind: Set, Call: int64(i), Value: int64(c)})
				if err != nil {
					t.Error(err)
					return
				}
				if i < 19 { // the last never returns
					o.Outcome, o.Return = Done, int64(i)+1
				}
			}
		})
	}
	wg.Wait()
	open := 0
	for _, o := range r.Ops() {
		if o.Return == 0 {
			open++
		}
	}
	if n := len(r.Ops()); n != 80 || open != 4 {
		t.Errorf("%d operations, %d of them open; want 80 and 4", n, open)
	}
	for range 20 {
		if _, err := w.Begin(Op{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Begin(Op{}); err != ErrFull || len(r.Ops()) != 100 {
		t.Errorf("got %v, %d operations", err, len(r.Ops()))
	}
}

func TestTicketsAreDrawnOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tickets")
	a, err := OpenTickets(path)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := OpenTickets(path)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for i := range int64(10) {
		if x, y := a.Next(), b.Next(); x != 2*i || y != 2*i+1 || a.Drawn() != 2*i+2 {
			t.Fatalf("drew %d and %d, %d in all", x, y, a.Drawn())
		}
	}
}
