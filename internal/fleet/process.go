//go:build unix

package fleet

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A process is a worker as its parent sees it.
type process struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	log  tail
	done chan struct{} // its process was waited for
}

func start(table *os.File) (*process, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.Command(exe, workerArg), done: make(chan struct{})}
	p.cmd.ExtraFiles = []*os.File{table}
	p.cmd.Stderr = &p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a terminal's Ctrl-C is for the parent
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	// A pipe of our own: Wait closes those that it knows, and what was said last
	// would be lost.
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p.cmd.Stdout = w
	p.out = bufio.NewReader(r)
	err = p.cmd.Start()
	w.Close()
	if err != nil {
		r.Close()
		return nil, err
	}
	go func() {
		defer close(p.done)
		p.cmd.Wait()
	}()
	return p, nil
}

// eachLine reads a line from each worker. It fails as soon as one is dead.
func eachLine(ctx context.Context, all []*process) ([]string, error) {
	lines := make([]string, len(all))
	ended := make(chan error, len(all))
	for i, p := range all {
		go func() {
			var err error
			if lines[i], err = p.out.ReadString('\n'); err != nil {
				err = p.died(i)
			}
			ended <- err
		}()
	}
	for range all {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case err := <-ended:
			if err != nil {
				return nil, err
			}
		}
	}
	return lines, nil
}

// died says why a worker is dead, with the end of its log.
func (p *process) died(i int) error {
	select {
	case <-p.done:
	case <-time.After(5 * time.Second):
		return fmt.Errorf("worker %d says nothing", i)
	}
	return fmt.Errorf("worker %d died (%v); its log ends:\n%s", i, p.cmd.ProcessState, p.log.String())
}

// stopAll ends the workers, and waits until they are gone.
func stopAll(all []*process) {
	for _, p := range all {
		p.in.Close()
	}
	limit := time.After(5 * time.Second)
	for _, p := range all {
		select {
		case <-p.done:
		case <-limit:
			p.cmd.Process.Kill()
			<-p.done
		}
	}
}

// tail keeps the end of what is written to it.
type tail struct {
	mu sync.Mutex
	b  []byte
}

func (t *tail) Write(b []byte) (int, error) {
	const limit = 8 << 10
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.b = append(t.b, b...); len(t.b) > limit {
		t.b = bytes.Clone(t.b[len(t.b)-limit:])
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.b))
}
