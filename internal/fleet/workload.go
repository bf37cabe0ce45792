//go:build unix

package fleet

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"time"
)

// A workload says which key is accessed next.
type workload interface{ next() int }

// zipf draws keys by Zipf's law with exponent 1.1: a few are hot.
type zipf struct{ z *rand.Zipf }

func newZipf(seed uint64, worker, keys int) zipf {
	r := rand.New(rand.NewPCG(seed, uint64(worker)))
	return zipf{rand.NewZipf(r, 1.1, 1, uint64(keys-1))}
}

func (z zipf) next() int { return int(z.z.Uint64()) }

// replay goes through a trace again and again, each worker from a place of its
// own.
type replay struct {
	accesses []int32
	at       int
}

func (r *replay) next() int {
	k := r.accesses[r.at]
	if r.at++; r.at == len(r.accesses) {
		r.at = 0
	}
	return int(k)
}

// ReadTrace reads a trace, gzip or text. A line is "key" or "first count ...",
// which stands for the keys first to first+count-1. Keys are numbered by their
// first access.
func ReadTrace(path string) (accesses []int32, keys int, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	buffered := bufio.NewReader(f)
	var r io.Reader = buffered
	if magic, _ := buffered.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		if r, err = gzip.NewReader(buffered); err != nil {
			return nil, 0, fmt.Errorf("%s: %w", path, err)
		}
	}
	const maxAccesses = 100_000_000
	index := make(map[int64]int32)
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		fields := bytes.Fields(lines.Bytes())
		if len(fields) == 0 {
			continue
		}
		first, err := strconv.ParseInt(string(fields[0]), 10, 64)
		count := int64(1)
		if err == nil && len(fields) > 1 {
			count, err = strconv.ParseInt(string(fields[1]), 10, 64)
		}
		if err != nil || count < 0 || count > maxAccesses-int64(len(accesses)) {
			return nil, 0, fmt.Errorf("%s, line %d: %q is neither a key nor \"first count\" of at most %d accesses in all", path, n, lines.Text(), maxAccesses)
		}
		for k := first; k < first+count; k++ {
			i, known := index[k]
			if !known {
				i = int32(len(index))
				index[k] = i
			}
			accesses = append(accesses, i)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, 0, fmt.Errorf("%s: %w", path, err)
	}
	if len(accesses) == 0 {
		return nil, 0, errors.New(path + " holds no access")
	}
	return accesses, len(index), nil
}

// owned returns the key closest to key that worker owns, of those below keys;
// it owns every workers-th.
func owned(key, worker, workers, keys int) int {
	if k := key - key%workers + worker; k < keys {
		return k
	}
	return worker
}

// A pace lets perSecond calls through in a second, in bursts of a millisecond.
type pace struct {
	interval time.Duration
	next     time.Time
}

func newPace(perSecond int) *pace {
	p := &pace{next: time.Now()}
	if perSecond > 0 {
		p.interval = time.Second / time.Duration(perSecond)
	}
	return p
}

// wait returns when the next call is due, or false when stop is closed.
func (p *pace) wait(stop <-chan struct{}) bool {
	if p.interval > 0 {
		p.next = p.next.Add(p.interval)
		if ahead := time.Until(p.next); ahead > time.Millisecond {
			select {
			case <-stop:
				return false
			case <-time.After(ahead):
			}
		}
	}
	select {
	case <-stop:
		return false
	default:
		return true
	}
}
