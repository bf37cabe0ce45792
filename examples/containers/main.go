// Containers uses the LRU and FIFO containers alone, without Redis: an LRU that
// closes the files which it evicts, and a FIFO that remembers the last events
// seen, shared by goroutines.
//
//	go run ./examples/containers
package main

import (
	"fmt"
	"io"
	"log"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/flipcache/flipcache/fifo"
	"github.com/flipcache/flipcache/lru"
)

func main() {
	log.SetFlags(0)
	if err := run(os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(out io.Writer) error {
	if err := openFiles(out); err != nil {
		return err
	}
	return eventsSeen(out)
}

// openFiles keeps at most two files open: those used last.
func openFiles(out io.Writer) error {
	dir, err := os.MkdirTemp("", "containers-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()

	open, err := lru.New(lru.Options[string, *os.File]{
		Capacity: 2,
		OnEvict: func(name string, f *os.File, why lru.Reason) {
			fmt.Fprintf(out, "close %s (%v)\n", name, why)
			f.Close()
		},
	})
	if err != nil {
		return err
	}
	defer open.Clear() // closes the rest
	for _, name := range []string{"a.log", "b.log", "a.log", "c.log"} {
		f, found := open.Get(name)
		if !found {
			if f, err = root.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644); err != nil {
				return err
			}
			open.Set(name, f)
		}
		if _, err := fmt.Fprintln(f, "a line"); err != nil {
			return err
		}
	}
	fmt.Fprintln(out, "open:", slices.Collect(open.Keys()))
	return nil
}

// eventsSeen has several goroutines get the same events, and counts each once.
func eventsSeen(out io.Writer) error {
	seen, err := fifo.NewLocked(fifo.Options[int, struct{}]{Capacity: 1000})
	if err != nil {
		return err
	}
	var fresh atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for id := range 5000 {
				// One step: looking first and then setting would count an
				// event twice when two goroutines look at once.
				if _, replaced := seen.Set(id%500, struct{}{}); !replaced {
					fresh.Add(1)
				}
			}
		})
	}
	wg.Wait()
	oldest, _, _ := seen.Oldest()
	fmt.Fprintf(out, "events: %d, remembered: %d of %d, oldest: %d\n", fresh.Load(), seen.Len(), seen.Cap(), oldest)
	return nil
}
