package dial

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestConns_WhoIsLeftIsLeftAtOnceAndNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var known Conns
		f := Until(t.Context(), peers{"a": 1, "b": 1}.option(), &known)
		a, a2, b := dialled(t, t.Context(), f, "a"), dialled(t, t.Context(), f, "a"), dialled(t, t.Context(), f, "b")
		known.Leave("a")
		if !closed(a) || !closed(a2) {
			t.Error("connections to who was left are open")
		}
		if closed(b) {
			t.Error("the connection to another is closed")
		}
		if c, err := f(t.Context(), "a", nil, nil); err == nil {
			t.Error("it was dialled again at once")
			c.Close()
		}
		dialled(t, t.Context(), f, "b").Close()
		time.Sleep(leftFor)
		again := dialled(t, t.Context(), f, "a")
		if closed(again) {
			t.Error("what was dialled later is closed")
		}
		for _, c := range []interface{ Close() error }{a, a2, b, again} {
			c.Close()
		}
		if len(known.open) != 0 || len(known.left) != 0 {
			t.Errorf("it knows %d connections and %d addresses, want none", len(known.open), len(known.left))
		}
	})
}

func TestConns_DiallingWhoIsLeftEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var known Conns
		f := Until(t.Context(), peers{}.option(), &known)
		time.AfterFunc(time.Second, func() { known.Leave("a") })
		began := time.Now()
		if _, err := f(t.Context(), "a", nil, nil); err == nil {
			t.Error("it dialled")
		}
		if took := time.Since(began); took != time.Second {
			t.Errorf("it took %v", took)
		}
		if len(known.open) != 0 {
			t.Error("it is known after its end")
		}
	})
}

func TestConns_WhoseDiallingIgnoresItIsClosedThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var known Conns
		f := Until(t.Context(), peers{"a": 2 * time.Second}.option(), &known)
		time.AfterFunc(time.Second, func() { known.Leave("a") })
		c, err := f(t.Context(), "a", nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !closed(c) {
			t.Error("it is open")
		}
		c.Close()
		time.Sleep(time.Minute) // the peer ends
	})
}
