package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/flipcache/flipcache/benchmarks/hitratio"
)

// A row is one cell: a trace, a capacity, with invalidations or without.
type row struct {
	trace         string
	accesses      int
	capacity      int
	invalidations bool
	ratio         []float64 // by policy, in percent
}

// simulate fills the rows: first those without invalidations of a trace, then
// those with.
func (p plan) simulate(ctx context.Context, testdata string) ([]*row, error) {
	traces, err := p.traces(testdata)
	if err != nil {
		return nil, err
	}
	var rows []*row
	var wg sync.WaitGroup
	defer wg.Wait()
	var mu sync.Mutex // guards failed
	var failed error
	slots := make(chan struct{}, parallel)
	for _, t := range traces {
		accesses, err := t.Load()
		if err != nil {
			return nil, err
		}
		if p.short {
			accesses = accesses[:min(len(accesses), shortAccesses)]
		}
		fmt.Fprintf(os.Stderr, "%s: %d accesses\n", t.Name, len(accesses))
		for _, invalidations := range []bool{false, true} {
			for _, capacity := range t.Capacities {
				r := &row{t.Name, len(accesses), capacity, invalidations, make([]float64, len(p.policies))}
				rows = append(rows, r)
				for i, policy := range p.policies {
					select {
					case slots <- struct{}{}:
					case <-ctx.Done():
						return nil, errors.New("interrupted")
					}
					wg.Go(func() {
						defer func() { <-slots }()
						ratio, err := p.mean(policy, r, accesses)
						mu.Lock()
						defer mu.Unlock()
						r.ratio[i] = ratio
						failed = errors.Join(failed, err)
					})
				}
			}
		}
	}
	wg.Wait()
	return rows, failed
}

// mean simulates one policy in one cell, as often as it takes.
func (p plan) mean(policy hitratio.Policy, r *row, accesses []uint64) (float64, error) {
	count := p.count
	if policy.Module == "" { // no random seed
		count = 1
	}
	sum := 0.0
	for range count {
		ratio, err := hitratio.Simulate(policy, r.capacity, accesses, r.invalidations)
		if err != nil {
			return 0, fmt.Errorf("%s/%d: %w", r.trace, r.capacity, err)
		}
		sum += ratio
	}
	return sum / float64(count), nil
}
