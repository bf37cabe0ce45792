//go:build unix

package history

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// A Log is a file of operations that its process has in memory: what was written
// before the process was killed is there. Safe for concurrent use.
type Log struct {
	memory []byte
	head   *head
	ops    []Op
}

type head struct {
	used atomic.Int64 // slots that were given out
	_    [56]byte
}

// ErrFull is returned by Begin when there is no room for one more.
var ErrFull = errors.New("history: the log is full")

// OpenLog maps the file at path, which it makes where there is none, for at most
// capacity operations. Both sides must give the same.
func OpenLog(path string, capacity int) (*Log, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size := int64(unsafe.Sizeof(head{})) + int64(capacity)*int64(unsafe.Sizeof(Op{}))
	if err := f.Truncate(size); err != nil { // sparse: what is not used takes no room
		return nil, err
	}
	m, err := syscall.Mmap(int(f.Fd()), 0, int(size), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("history: map %s: %w", path, err)
	}
	h := (*head)(unsafe.Pointer(&m[0]))
	return &Log{m, h, unsafe.Slice((*Op)(unsafe.Pointer(&m[unsafe.Sizeof(*h)])), capacity)}, nil
}

// Begin writes down that o is called. The caller completes what it points to, its
// Return last.
func (l *Log) Begin(o Op) (*Op, error) {
	i := l.head.used.Add(1) - 1
	if i >= int64(len(l.ops)) {
		return nil, ErrFull
	}
	l.ops[i] = o
	return &l.ops[i], nil
}

// Ops returns what the log holds; call it when the process that wrote it has ended,
// or has nothing under way.
func (l *Log) Ops() []Op { return l.ops[:min(l.head.used.Load(), int64(len(l.ops)))] }

// Close unmaps the file.
func (l *Log) Close() error {
	if l.memory == nil {
		return errors.New("history: closed twice")
	}
	m := l.memory
	l.memory, l.head, l.ops = nil, nil, nil
	return syscall.Munmap(m)
}

// Tickets are numbers that several processes draw, each once.
type Tickets struct {
	memory []byte
	last   *atomic.Int64
}

// OpenTickets maps the file at path, which it makes where there is none.
func OpenTickets(path string) (*Tickets, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := f.Truncate(8); err != nil {
		return nil, err
	}
	m, err := syscall.Mmap(int(f.Fd()), 0, 8, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("history: map %s: %w", path, err)
	}
	return &Tickets{m, (*atomic.Int64)(unsafe.Pointer(&m[0]))}, nil
}

// Next draws the next number, from 0 on.
func (t *Tickets) Next() int64 { return t.last.Add(1) - 1 }

// Drawn returns how many were drawn.
func (t *Tickets) Drawn() int64 { return t.last.Load() }

// Close unmaps the file.
func (t *Tickets) Close() error { return syscall.Munmap(t.memory) }
