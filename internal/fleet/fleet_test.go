//go:build unix

package fleet

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTraceIsReplayed(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, zip bool) string {
		path := filepath.Join(dir, name)
		var b bytes.Buffer
		if zip {
			z := gzip.NewWriter(&b)
			io.WriteString(z, text)
			z.Close()
		} else {
			b.WriteString(text)
		}
		if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for path, want := range map[string][]int32{
		write("pages", "7\n9\n\n7\n", false):              {0, 1, 0},
		write("pages.gz", "7\n9\n7\n", true):              {0, 1, 0},
		write("ranges.gz", "10 3 0 0\n11 1 0 0\n", true):  {0, 1, 2, 1},
		write("ranges", "10 3 0 0\n5 0 0 0\n11 1", false): {0, 1, 2, 1},
	} {
		got, keys, err := ReadTrace(path)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) || keys != int(want[1])+1 && keys != 3 {
			t.Errorf("%s: got %v, %d keys, %v; want %v", filepath.Base(path), got, keys, err, want)
		}
	}
	for _, path := range []string{write("empty", "", false), write("words", "seven\n", false), write("huge", "1 99999999999999\n", false),
		write("negative", "1 -1\n", false), filepath.Join(dir, "none")} {
		if _, _, err := ReadTrace(path); err == nil || !strings.Contains(err.Error(), filepath.Base(path)) {
			t.Errorf("%s: got %v, want an error that names the file", filepath.Base(path), err)
		}
	}
}

func TestOwnedKeysAreShared(t *testing.T) {
	for _, c := range []struct{ key, worker, workers, keys, want int }{
		{0, 0, 4, 10, 0}, {0, 3, 4, 10, 3}, {9, 0, 4, 10, 8}, {9, 1, 4, 10, 9}, {9, 3, 4, 10, 3}, {5, 0, 1, 10, 5},
	} {
		if got := owned(c.key, c.worker, c.workers, c.keys); got != c.want {
			t.Errorf("owned(%d, %d, %d, %d) = %d, want %d", c.key, c.worker, c.workers, c.keys, got, c.want)
		}
	}
}

func TestScheduleIsTheSamePerSeedAndEndsInTime(t *testing.T) {
	const length = 60 * time.Second
	a, b, other := schedule(7, 4, 1, length, true), schedule(7, 4, 1, length, true), schedule(8, 4, 1, length, true)
	if !slices.Equal(a, b) || slices.Equal(a, other) || len(a) < 50 {
		t.Errorf("%d faults; the same seed gives the same: %t, another one too: %t", len(a), slices.Equal(a, b), slices.Equal(a, other))
	}
	kinds := make(map[string]int)
	for i, f := range a {
		kinds[f.kind]++
		if f.at < chaosBegins || f.at+f.length > length-chaosPauses || i > 0 && f.at < a[i-1].at {
			t.Errorf("%+v", f)
		}
		if f.worker < 0 && f.kind != freeze {
			t.Errorf("%+v is of the server", f)
		}
	}
	for _, k := range []string{cutLink, stallLink, stallUp, stallDown, delayLink, delayUp, delayDown, throttle, killClients, freeze} {
		if kinds[k] == 0 {
			t.Errorf("no %s in a minute", k)
		}
	}
	for _, f := range schedule(7, 4, 1, length, false) {
		if f.worker < 0 {
			t.Errorf("%+v stops a server that is not the demo's", f)
		}
	}
}
