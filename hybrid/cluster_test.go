package hybrid

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"testing"
	"time"

	"github.com/flipcache/flipcache/internal/redistest"
	"github.com/flipcache/flipcache/invalidate"
)

// What Open refuses of a cluster, and with what words.
func TestOpenRefusesWhatAClusterCannotKeep(t *testing.T) {
	s := redistest.Real(t, "--cluster-enabled", "yes")
	if err := s.AddSlots(0, 16383); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*StoreOptions){
		"invalidate.Tracking": func(o *StoreOptions) {
			o.Client.ForceSingleClient, o.Invalidation, o.MaxStaleness = false, invalidate.PubSub, time.Second
		},
		"ForceSingleClient": func(o *StoreOptions) { o.Invalidation = invalidate.Tracking },
	} {
		o := StoreOptions{Client: s.ClientOption(), StartCut: true}
		change(&o)
		_, err := Open(ctx, o)
		if !errors.Is(err, ErrOption) || !contains(err.Error(), want) {
			t.Errorf("got %v, want ErrOption that names %s", err, want)
		}
	}
}

// All methods, in all modes, with keys of many slots and names of any bytes.
func TestAllMethodsInACluster(t *testing.T) {
	t.Parallel()
	s := redistest.Cluster(t)
	for _, mode := range []invalidate.Mode{invalidate.Off, invalidate.PubSub, invalidate.Tracking} {
		for _, announce := range []bool{false, true} {
			if announce && mode != invalidate.Tracking {
				continue
			}
			t.Run(fmt.Sprintf("%v, announce %t", mode, announce), func(t *testing.T) {
				st := openStore(t, s, mode, func(o *StoreOptions) { o.Announce = announce })
				for _, name := range []string{"n", "a}b", "{}", "{", "{tag}", "x{tag}y"} {
					methodsWork(t, st, name)
				}
				if mode == invalidate.Tracking {
					bound := openStore(t, s, mode, func(o *StoreOptions) { o.MaxStaleness = time.Second })
					methodsWork(t, bound, "bound")
				}
				r, err := st.Check(ctx)
				if err != nil {
					t.Fatal(err)
				}
				if len(r.Problems) > 0 || (len(r.Notes) > 0) != (announce || mode == invalidate.PubSub) || !contains(r.Server, "cluster master") {
					t.Errorf("Check: %v", r)
				}

			})
		}
	}
}

func methodsWork(t *testing.T, st *Store, name string) {
	t.Helper()
	c := newOn(t, st, name, Options[string, string]{})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%q: %v", name, err)
		}
	}
	const n = 300
	all := make(map[string]string, n)
	var keys []string
	for i := range n {
		k := key(i)
		switch i % 10 {
		case 3:
			k = "}" + k
		case 5:
			k = "{" + k + "}"
		case 7:
			k = "{" + k
		}
		all[k] = strconv.Itoa(i)
		keys = append(keys, k)
	}
	must(c.SetMany(ctx, all))
	got, err := c.Fresh().GetMany(ctx, keys)
	must(err)
	for _, k := range keys {
		if got[k] != all[k] {
			t.Fatalf("%q: %q: got %q, want %q", name, k, got[k], all[k])
		}
	}
	found, err := c.Count(ctx)
	must(err)
	if found != n {
		t.Errorf("%q: %d keys, want %d", name, found, n)
	}
	var listed []string
	for k, err := range c.Keys(ctx) {
		must(err)
		listed = append(listed, k)
	}
	sort.Strings(listed)
	sort.Strings(keys)
	if !slices.Equal(listed, keys) {
		t.Errorf("%q: Keys lists %d", name, len(listed))
	}
	for _, k := range keys[:20] {
		must(c.SetTTL(ctx, k, "short", 30*time.Second)) // below a token's life
		if v, err := c.Get(ctx, k); err != nil || v != "short" {
			t.Fatalf("%q: %q, %v", k, v, err)
		}
		must(c.Touch(ctx, k, 20*time.Second))
		_, err := c.Update(ctx, k, func(old string, _ bool) (string, error) { return old + "er", nil })
		must(err)
		v, err := c.GetAndDelete(ctx, k)
		if must(err); v != "shorter" {
			t.Errorf("%q: took %q", k, v)
		}
		v, err = c.GetOrLoad(ctx, k, func(context.Context, string) (string, error) { return "loaded", nil })
		if must(err); v != "loaded" {
			t.Errorf("%q: loaded %q", k, v)
		}
		if v, err := c.Fresh().Get(ctx, k); err != nil || v != "loaded" {
			t.Errorf("%q: a load left %q, %v", k, v, err)
		}
		done, err := c.SetIfAbsent(ctx, k, "other")
		if must(err); done {
			t.Errorf("%q: set although it was there", k)
		}
		if ttl, err := c.TTL(ctx, k); err != nil || ttl != NoTTL {
			t.Errorf("%q: TTL %v, %v", k, ttl, err)
		}
	}
	must(c.Delete(ctx, keys[:50]...))
	if found, err = c.Count(ctx); err != nil || found != n-50 {
		t.Errorf("%q: %d keys, %v, want %d", name, found, err, n-50)
	}
	if c.Stats().WriteBackErrors > 0 {
		t.Errorf("%q: %+v", name, c.Stats())
	}
	must(c.Clear(ctx))
	if found, err = c.Count(ctx); err != nil || found != 0 {
		t.Errorf("%q: after Clear %d keys, %v", name, found, err)
	}
}

// H17: Redis does not tell of a missing key that is created while its slot moves: who
// waits for a lease, or a second, has waited for its absence, too.
func TestH17_AbsenceEndsWithTheLeaseInACluster(t *testing.T) {
	t.Parallel()
	st := openStore(t, redistest.Embedded(t), invalidate.PubSub)
	c := newOn(t, st, "n", Options[string, string]{NegativeTTL: time.Minute})
	for _, test := range []struct {
		cluster     bool
		lease, want time.Duration
	}{
		{false, 0, time.Minute},
		{false, 300 * time.Millisecond, time.Minute},
		{true, 0, maxNegativeInCluster},
		{true, 300 * time.Millisecond, 300 * time.Millisecond},
		{true, 10 * time.Second, maxNegativeInCluster},
	} {
		st.inCluster, st.maxStaleness = test.cluster, test.lease
		if r := c.missing(7, false); time.Duration(r.Deadline-7) != test.want || !r.Keep {
			t.Errorf("cluster %t, lease %v: it is remembered for %v, want %v", test.cluster, test.lease, time.Duration(r.Deadline-7), test.want)
		}
	}
	st.inCluster = false
}
