package dial

import (
	"net"
	"testing"
	"testing/synctest"
	"time"
)

func TestGreetingIsUnderWayUntilTheFirstWordOrTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Greeting
		f := g.Dial(peers{"a": time.Second, "refuses": -1}.option())
		underWay := func(want bool, when string) {
			t.Helper()
			if synctest.Wait(); g.UnderWay() != want {
				t.Errorf("%s: under way %t", when, !want)
			}
		}
		underWay(false, "before")
		dial := make(chan net.Conn)
		go func() {
			c, _ := f(t.Context(), "a", nil, nil)
			dial <- c
		}()
		underWay(true, "dialling")
		c := <-dial
		underWay(true, "nothing was said")
		c.Read(make([]byte, 8))
		underWay(false, "the peer has spoken")
		c.Close()
		underWay(false, "closed")
		if _, err := f(t.Context(), "refuses", nil, nil); err == nil {
			t.Error("it dialled")
		}
		underWay(false, "refused")
		c, _ = f(t.Context(), "a", nil, nil)
		underWay(true, "again")
		c.Close()
		underWay(false, "closed before a word")
		time.Sleep(time.Minute) // the peers end
	})
}
