package hitratio

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// A Trace is a list of accesses and the capacities that it is tried with.
type Trace struct {
	Name       string
	Capacities []int
	Load       func() ([]uint64, error)
}

// Cells returns the traces of which the default report is made, with their 27
// capacities: each is run with and without invalidations, which makes 54 cells.
// dir holds oltp.gz and loop.gz.
func Cells(dir string) []Trace {
	file := func(name string) func() ([]uint64, error) {
		return func() ([]uint64, error) { return Read(filepath.Join(dir, name)) }
	}
	made := func(make func() []uint64) func() ([]uint64, error) {
		return func() ([]uint64, error) { return make(), nil }
	}
	zipf := func(s float64, seed uint64) func() ([]uint64, error) {
		return made(func() []uint64 { return Zipf(100_000, s, 1_000_000, seed) })
	}
	return []Trace{
		{"oltp", []int{500, 1000, 2000, 5000}, file("oltp.gz")},
		{"loop", []int{128, 256, 512, 768, 960}, file("loop.gz")},
		{"zipf0.9", []int{1000, 10_000}, zipf(0.9, 1)},
		{"zipf1.0", []int{1000, 10_000}, zipf(1.0, 2)},
		{"zipf1.1", []int{1000, 10_000}, zipf(1.1, 3)},
		{"scan", []int{1000, 5000, 20_000}, made(func() []uint64 { return scan(4) })},
		{"shift", []int{500, 2000, 5000}, made(func() []uint64 { return shift(5) })},
		{"drift", []int{250, 1000, 2500}, made(func() []uint64 { return drift(6) })},
		{"mix", []int{500, 1000, 2000}, made(func() []uint64 { return mix(7) })},
	}
}

// Read reads a trace from a file, plain or gzip. A line is
//
//	key              one access
//	first count 0 0  count accesses, to the keys from first on
//
// where a key that is no number is hashed. Empty lines, and lines of a * alone,
// which LIRS' traces have, are passed over.
func Read(path string) ([]uint64, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	trace, err := parse(f)
	if err == nil && len(trace) == 0 {
		err = errors.New("no access in it")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return trace, nil
}

// maxAccesses bounds what one trace may hold: its keys are in memory, 8 bytes
// each.
const maxAccesses = 1 << 28

func parse(r io.Reader) (trace []uint64, err error) {
	buffered := bufio.NewReader(r)
	r = buffered
	if magic, err := buffered.Peek(2); err == nil && bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		if r, err = gzip.NewReader(buffered); err != nil {
			return nil, err
		}
	}
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line == "*" {
			continue
		}
		first, count, err := access(strings.Fields(line))
		if err == nil && uint64(maxAccesses-len(trace)) < count {
			err = fmt.Errorf("more than %d accesses", maxAccesses)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		for i := range count {
			trace = append(trace, first+i)
		}
	}
	return trace, lines.Err()
}

// access returns the first key of a line and how many follow each other.
func access(fields []string) (first, count uint64, err error) {
	switch len(fields) {
	case 1:
		if key, err := strconv.ParseUint(fields[0], 10, 64); err == nil {
			return key, 1, nil
		}
		h := fnv.New64a()
		h.Write([]byte(fields[0]))
		return h.Sum64(), 1, nil
	case 4:
		first, err1 := strconv.ParseUint(fields[0], 10, 64)
		count, err2 := strconv.ParseUint(fields[1], 10, 64)
		if err := errors.Join(err1, err2); err != nil {
			return 0, 0, err
		}
		return first, count, nil
	}
	return 0, 0, fmt.Errorf("%d words: neither \"key\" nor \"first count 0 0\"", len(fields))
}
