package hitratio

import "fmt"

// A Cache is what a simulation drives, from one goroutine.
type Cache interface {
	Get(key uint64) bool
	Set(key uint64)
	// Invalidate takes a key out that was written elsewhere.
	Invalidate(key uint64)
	Len() int
	Close()
}

// A Policy makes a Cache.
type Policy struct {
	Name   string
	Module string // "" for those of this package
	// Exact says that Len never exceeds the capacity, not even for a moment.
	Exact bool
	New   func(capacity int) (Cache, error)
}

// Policies returns what is measured, FlipCache first.
func Policies() []Policy {
	return []Policy{
		{"FlipCache", "github.com/flipcache/flipcache", true, newFlipcache},
		{"otter", "github.com/maypok86/otter/v2", false, newOtter},
		{"theine", "github.com/Yiling-J/theine-go", false, newTheine},
		{"LRU", "", true, newLRU},
		{"FIFO", "", true, newFIFO},
		{"S3-FIFO", "", true, newS3FIFO},
		{"SIEVE", "", true, newSieve},
	}
}

// InvalidateEvery is how often an access' key is invalidated before it, in the
// cells with invalidations.
const InvalidateEvery = 20

// Simulate returns the share of the accesses that hit, in percent.
func Simulate(p Policy, capacity int, trace []uint64, invalidations bool) (float64, error) {
	c, err := p.New(capacity)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	hits := 0
	for i, k := range trace {
		if invalidations && i%InvalidateEvery == InvalidateEvery-1 {
			c.Invalidate(k)
		}
		if c.Get(k) {
			hits++
			continue
		}
		c.Set(k)
		if n := c.Len(); p.Exact && n > capacity {
			return 0, fmt.Errorf("%s holds %d of %d", p.Name, n, capacity)
		}
	}
	return 100 * float64(hits) / float64(len(trace)), nil
}
