//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/flipcache/flipcache/internal/fleet"
	"github.com/flipcache/flipcache/internal/history/client"
	"github.com/flipcache/flipcache/internal/redisserver"
)

func TestMain(m *testing.M) {
	if fleet.IsWorker() {
		os.Exit(fleet.Serve(newJob, os.Stdin, os.Stdout, os.Stderr))
	}
	goleak.VerifyTestMain(m)
}

// checked runs the command and returns its rows.
func checked(t *testing.T, args ...string) (rows []row, good bool) {
	t.Helper()
	if !redisserver.Available() {
		if os.Getenv("CI") == "true" {
			t.Fatal("no redis-server on PATH: CI needs one (make redis-server)")
		}
		t.Skip("no redis-server on PATH (make redis-server)")
	}
	var out, log bytes.Buffer
	good, err := check(context.Background(), append(args, "-json", "-out", t.TempDir()), &out, &log)
	if err != nil {
		t.Fatalf("%v\n%s", err, log.String())
	}
	if err := json.Unmarshal(out.Bytes(), &rows); err != nil || len(rows) == 0 {
		t.Fatalf("%v: %s", err, out.String())
	}
	return rows, good
}

// The short form of make check-history.
func TestPromisesHoldUnderFaults(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"pubsub+lease", "tracking+lease"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			rows, good := checked(t, "-mode", mode, "-chaos", "-duration", "5s", "-workers", "3", "-clients", "4", "-rate", "200")
			r := rows[0]
			if !good {
				t.Errorf("undecided: %d; broken: %v", r.Undecided, r.Broken)
			}
			if r.Operations < 3000 || r.Reads < 1000 || r.Writes < 300 || r.Registers < 16 || r.Pieces < 1 {
				t.Errorf("too little was done: %+v", r)
			}
		})
	}
}

func TestOffBreaksThePromisesOfPubSub(t *testing.T) {
	t.Parallel()
	rows, good := checked(t, "-mode", "off", "-as", "pubsub+lease", "-duration", "3s", "-workers", "3", "-clients", "4", "-rate", "200")
	if !good || len(rows[0].Broken) == 0 {
		t.Fatalf("nothing was found: %+v", rows[0])
	}
	for i, v := range rows[0].Broken[:min(kept, len(rows[0].Broken))] {
		if t.Failed() {
			break
		}
		html, err := os.ReadFile(v.HTML)
		if err != nil || !bytes.Contains(html, []byte(v.Broken.String()+" is broken")) {
			t.Errorf("picture %d: %v\n%v", i, err, v)
		}
		if text, err := os.ReadFile(strings.TrimSuffix(v.HTML, "html") + "txt"); err != nil || !bytes.Contains(text, []byte(v.Why)) {
			t.Errorf("history %d: %v", i, err)
		}
	}
}

func TestEachDefenceStandsInTheCodeOnce(t *testing.T) {
	for _, d := range defences {
		code, err := os.ReadFile("../../../" + d.file)
		if err != nil {
			t.Fatal(err)
		}
		without, err := d.takenOutOf(string(code))
		if err != nil {
			t.Error(err)
		} else if lines := strings.Count(string(code), "\n"); strings.Count(without, "\n") != lines || strings.Contains(without, d.holds) && !strings.Contains(d.then, d.holds) {
			t.Errorf("%s: more or less than one line changes", d.name)
		}
		if _, err := client.ParseVariant(d.seenIn); err != nil {
			t.Error(err)
		}
		if err := d.compile(t.Context(), t.TempDir(), "./"+path.Dir(d.file)); err != nil {
			t.Error(err)
		}
	}
}

func TestArgumentsAreChecked(t *testing.T) {
	for _, args := range [][]string{
		{"-mode", "off+lease"}, {"-mode", "pubsub+acked+cluster"}, {"-mode", "sometimes"}, {"-as", "x"}, {"-without", "nothing"},
		{"-chaos", "-duration", "2s"}, {"-all", "-chaos"}, {"-workers", "0"}, {"-clients", "65"}, {"-rate", "0"}, {"x"},
	} {
		if _, err := check(context.Background(), args, new(bytes.Buffer), new(bytes.Buffer)); err == nil {
			t.Errorf("%q is accepted", args)
		}
	}
	for _, name := range []string{"off", "pubsub+lease", "tracking+acked", "tracking+lease+cluster", "pubsub+cluster"} {
		if v, err := client.ParseVariant(name); err != nil || v.String() != name {
			t.Errorf("%q: got %v, %v", name, v, err)
		}
	}
}
