//go:build unix

package fleet

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// A Job is what a worker does: the parent's lines are orders, and each has an answer.
type Job interface {
	// Answer does what line says, GoLine or a line of the program's own, and returns
	// what the parent gets, as JSON: that to GoLine has to be a Result, or nil. ctx
	// ends with the parent.
	Answer(ctx context.Context, line string) (any, error)
	Close()
}

var errOrphaned = errors.New("the parent is gone")

// Serve is a worker's main: it begins a job, says "ready", and answers until its
// input ends. It returns the exit code.
func Serve(begin func(context.Context, Config) (Job, error), in io.Reader, out, errOut io.Writer) int {
	signal.Ignore(os.Interrupt, syscall.SIGTERM) // the parent says when to end
	lines := bufio.NewReader(in)
	first, err := lines.ReadBytes('\n')
	if err != nil {
		return 1
	}
	var c Config
	if err := json.Unmarshal(first, &c); err != nil {
		fmt.Fprintln(errOut, "config:", err)
		return 1
	}
	if err := serve(begin, c, lines, out); err != nil {
		fmt.Fprintln(errOut, err)
		return 1
	}
	return 0
}

func serve(begin func(context.Context, Config) (Job, error), c Config, in *bufio.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	job, err := begin(ctx, c)
	if err != nil {
		return err
	}
	defer job.Close()
	if err := say(out, "ready"); err != nil {
		return err
	}
	told := make(chan string)
	go func() { // the parent's end is ours
		defer cancel()
		defer close(told)
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			told <- line[:len(line)-1]
		}
	}()
	for line := range told {
		answer, err := job.Answer(ctx, line)
		if ctx.Err() != nil {
			return errOrphaned
		}
		if err != nil {
			return err
		}
		b, err := json.Marshal(answer)
		if err != nil {
			return err
		}
		if err := say(out, string(b)); err != nil {
			return err
		}
	}
	return nil
}
