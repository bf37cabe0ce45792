package invalidate

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// H17: what all masters say of the slots is what a session begins with. None begins
// while they do not agree, nor while a slot is on its way to one that no probe asks.
func TestH17_SessionBeginsWhereAllMastersAgree(t *testing.T) {
	for name, test := range map[string]struct {
		b    string // what b says
		want bool
	}{
		"all agree":                               {said("b", twoHalves, ""), true},
		"a slot is on its way to the other":       {said("b", twoHalves, "[9000->-a]"), true},
		"a slot is on its way to one of no slots": {said("b", twoHalves, "[9000->-c]"), false},
		"an epoch differs":                        {said("b", strings.Replace(twoHalves, "0 0 1", "0 0 9", 1), ""), false},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHalves(t)
			h.b.says(func(n *fakeNode) { n.nodes = test.b })
			if err := h.discover(); (err == nil) != test.want {
				t.Errorf("it begins: %v", err)
			}
		})
	}
}

// H15, H17: a probe is answered if each master writes, and sees the table of the
// session, and no slot is on its way to one that is not asked.
func TestH17_ProbeIsAnsweredByEachMasterUnderTheTableOfTheSession(t *testing.T) {
	for name, test := range map[string]struct {
		change func(n *fakeNode, me string)
		want   error // nil: any
	}{
		"it sees another epoch": {func(n *fakeNode, me string) {
			n.nodes = said(me, strings.Replace(twoHalves, "0 0 2", "0 0 9", 1), "")
		}, errMoved},
		"a slot is on its way to one of no slots": {func(n *fakeNode, me string) { n.nodes = said(me, twoHalves, "[1->-c]") }, errMoved},
		"another node has its address":            {func(n *fakeNode, _ string) { n.nodes = said("c", twoHalves, "") }, errMoved},
		"it does not write":                       {func(n *fakeNode, _ string) { n.refuses = "SET" }, nil},
		"it does not say what it sees":            {func(n *fakeNode, _ string) { n.refuses = "CLUSTER" }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHalves(t)
			h.session(t)
			if err := h.probe(); err != nil {
				t.Fatalf("all is well: %v", err)
			}
			for me, n := range map[string]*fakeNode{"a": h.a, "b": h.b} {
				n.says(func(n *fakeNode) { test.change(n, me) })
				if err := h.probe(); err == nil || test.want != nil && !errors.Is(err, test.want) {
					t.Errorf("%s: %v, want an error: %v", me, err, test.want)
				}
				h.all(twoHalves)
				n.says(func(n *fakeNode) { n.refuses = "" })
			}
			delete(h.client.nodes, h.a.addr)
			if err := h.probe(); !errors.Is(err, errMoved) {
				t.Errorf("a master has left: %v", err)
			}
		})
	}
}

// H13: one master of several is silent: the probe has no answer, and the connection to
// that one is not used again.
func TestH13_ConnectionToASilentMasterIsClosed(t *testing.T) {
	h := newHalves(t)
	h.session(t)
	h.dialed(h.a, 0)
	h.dialed(h.b, 0)
	h.b.says(func(n *fakeNode) { n.silent = true })
	h.s.cfg.Timeout = time.Second // for the other one, too
	if err := h.probe(); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("one is silent: %v", err)
	}
	h.hangUp()
	if h.t.connTo(h.a.addr) == nil || h.t.connTo(h.b.addr) != nil {
		t.Error("want the connection to the silent one closed, and the other one kept")
	}
}

// H16: the connection to who becomes a master may be one to a replica of before: it is
// made anew. What was listened to by the session of before ends.
func TestH16_ConnectionToWhoBecomesAMasterIsMadeAnew(t *testing.T) {
	h := newHalves(t)
	h.all("a 127.0.0.1:1@11 master - 0 0 1 connected 0-16383\nb 127.0.0.1:2@12 master - 0 0 2 connected\n")
	h.session(t)
	h.dialed(h.a, 0)
	h.dialed(h.b, 0)
	ears := h.ears
	h.all(twoHalves)
	h.session(t)
	if h.t.connTo(h.a.addr) == nil || h.t.connTo(h.b.addr) != nil {
		t.Error("want the connection to the new master closed, and the other one kept")
	}
	if ears.Err() == nil {
		t.Error("the session of before is listened to")
	}
}

// H11: that a process is not in a list where it was says that Redis has lost others.
func TestH11_ListOfAClusterThatWasLostIsNoticed(t *testing.T) {
	h := newHalves(t)
	h.s.topics["n"] = &topic{tier: new(recorder)}
	for _, test := range []struct {
		what  string
		added int
		want  bool
	}{
		{"it is new there", 1, false}, {"it is there", 0, false}, {"it was there", 1, true},
	} {
		h.a.says(func(n *fakeNode) { n.added = test.added })
		if _, err := h.s.register("", ""); err != nil {
			t.Fatal(err)
		}
		if got := h.s.acks.lost.Load() != 0; got != test.want {
			t.Errorf("%s: taken for lost: %t", test.what, got)
		}
	}
}
