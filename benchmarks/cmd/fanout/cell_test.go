package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/flipcache/flipcache/internal/redisserver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func needServer(t *testing.T) {
	t.Helper()
	switch {
	case redisserver.Available():
	case os.Getenv("CI") == "true":
		t.Fatal("no redis-server on PATH: CI needs one (make redis-server)")
	default:
		t.Skip("no redis-server on PATH: this test needs a real one (make redis-server)")
	}
}

func TestEveryWriteIsHeardByThoseWhoListen(t *testing.T) {
	needServer(t)
	first := make([]int, 40)
	for i := range first {
		first[i] = i
	}
	for _, tt := range []struct {
		setting
		heard float64 // below 0: some, not all
	}{
		{setting{way: set}, 0},
		{setting{way: own}, 0},
		{setting{way: pubSub}, 0},
		{setting{way: pubSub, listeners: 5}, 5},
		{setting{way: tracking, listeners: 5, share: 1}, 5},
		{setting{way: tracking, listeners: 5, share: 0.3}, -1},
	} {
		t.Run(fmt.Sprint(tt.way, "/", tt.listeners, "/", tt.share), func(t *testing.T) {
			c, err := open(t.Context(), tt.setting, 4)
			if err != nil {
				t.Fatal(err)
			}
			defer c.close()
			// Twice the same keys: if it were not for the re-reads, nobody would
			// hear of the second time in Tracking, and pass would say so.
			for pass, writers := range []int{1, 4} {
				keys := slices.Clone(first)
				for i := range keys {
					if tt.way == own { // another writer has tracked the same
						keys[i] += pass * len(keys)
					}
				}
				m, err := c.pass(keys, writers)
				if err != nil {
					t.Fatal(err)
				}
				if m.write <= 0 || (m.reread > 0) != (tt.way == tracking) {
					t.Errorf("%d writers: %+v", writers, m)
				}
				if tt.heard >= 0 && m.heard != tt.heard || tt.heard < 0 && (m.heard < 0.5 || m.heard > 3) {
					t.Errorf("%d writers: heard %v a write, want %v", writers, m.heard, tt.heard)
				}
			}
		})
	}
}

func TestPassFailsAtOnceWhereAListenerIsLost(t *testing.T) {
	needServer(t)
	c, err := open(t.Context(), setting{tracking, 2, 1}, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	c.listeners[1].Close()
	began := time.Now()
	if _, err := c.pass([]int{1}, 1); err == nil || !strings.Contains(err.Error(), "listener 1:") {
		t.Errorf("got %v, want an error that names the listener", err)
	}
	if took := time.Since(began); took > patience/2 {
		t.Errorf("took %v", took)
	}
}

func TestPassIsCutWhereItWouldSendTooMuch(t *testing.T) {
	c := &cell{setting: setting{way: pubSub, listeners: 3}, listeners: make([]*conn, 3)}
	for _, tt := range []struct{ limit, keys, copies int }{{100, 4, 12}, {7, 2, 6}, {1, 1, 3}} {
		some, copies := c.upTo(tt.limit, []int{1, 2, 3, 4})
		if len(some) != tt.keys || copies != tt.copies {
			t.Errorf("limit %d: got %d keys, %d copies, want %d, %d", tt.limit, len(some), copies, tt.keys, tt.copies)
		}
	}
}

func TestProcessorTimeIsUserAndSystem(t *testing.T) {
	got, err := parseCPU("$9\r\n# CPU\r\nused_cpu_sys:1.500000\r\nused_cpu_user:2.000250\r\nused_cpu_sys_children:7.0\r\nused_cpu_user_children:7.0\r\n")
	if want := 3500250 * time.Microsecond; err != nil || got.Round(time.Microsecond) != want {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	if _, err := parseCPU("# CPU\r\nused_cpu_sys:1.5\r\n"); err == nil {
		t.Error("no error where a field is missing")
	}
}

func TestFlagsAreCheckedWhole(t *testing.T) {
	good := plan{[]int{1}, []float64{1}, []int{1, 64}, keyCount / 2, 1}
	if err := good.check(); err != nil {
		t.Error(err)
	}
	err := plan{[]int{0}, []float64{1.01}, []int{0}, keyCount + 1, 0}.check()
	for _, want := range []string{"-listeners", "-shares", "-writers", "-count", "-writes: with"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
	shares, err := numbers("10, 0.1,10", percent)
	if want := []float64{0.001, 0.1}; err != nil || !slices.Equal(shares, want) {
		t.Errorf("got %v, %v, want %v", shares, err, want)
	}
	if _, err := numbers("1,x", percent); err == nil {
		t.Error("no error for x")
	}
}
