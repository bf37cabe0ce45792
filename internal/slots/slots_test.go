package slots_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/flipcache/flipcache/internal/redistest"
	. "github.com/flipcache/flipcache/internal/slots"
)

// What CLUSTER KEYSLOT says.
func TestSlotsAreRedis(t *testing.T) {
	s := redistest.Real(t, "--cluster-enabled", "yes")
	keys := []string{"", "a", "{", "}", "{}", "{}a", "{a", "a}", "{a}", "x{a}y", "x{{a}y", "a}{b}", "a}b", "n:a}b", "{}{a}", "\x00\xff", strings.Repeat("long", 1000)}
	for i := range 1000 {
		keys = append(keys, strconv.Itoa(i*i*i))
	}
	for _, k := range keys {
		m, err := s.Do("CLUSTER", "KEYSLOT", k)
		if err != nil {
			t.Fatal(err)
		}
		if want, err := m.AsInt64(); err != nil || int64(Of(k)) != want {
			t.Errorf("slot of %q: got %d, want %d (%v)", k, Of(k), want, err)
		}
	}
}

func TestEachSlotHasATag(t *testing.T) {
	for slot := range uint16(Count) {
		if got := Of("x{" + Tag(slot) + "}y"); got != slot {
			t.Fatalf("the tag %s of slot %d has slot %d", Tag(slot), slot, got)
		}
	}
	if Tag(Of("0")) != "0" {
		t.Errorf("the tag of 0's slot is %s", Tag(Of("0")))
	}
}

func FuzzBesideLiesInTheSlotOfItsKey(f *testing.F) {
	for _, k := range []string{"", "a", "{", "}", "{}", "{}a", "{a", "a}", "{a}", "x{a}y", "a}{b}", "a}b", "{}{a}"} {
		f.Add(k)
	}
	f.Fuzz(func(t *testing.T, key string) {
		got := Beside("prefix:", key)
		if Of(got) != Of(key) || !strings.HasPrefix(got, "prefix:") || !strings.Contains(got, key) {
			if key != "" {
				t.Errorf("beside %q: %q, in slot %d, want %d", key, got, Of(got), Of(key))
			}
		}
	})
}

func TestViewOfTheCluster(t *testing.T) {
	const nodes = `txt:aa 127.0.0.1:1@11,host master - 0 1 2 connected 5461-10921
bb 127.0.0.1:2@12 myself,master - 0 0 1 connected 0-10 12 14-5460 [11->-aa] [13-<-aa]
cc 127.0.0.1:3@13 slave aa 0 1 2 connected
dd 127.0.0.1:4@14 master,fail - 0 1 0 disconnected
`
	v, err := ParseNodes(nodes)
	if err != nil {
		t.Fatal(err)
	}
	if v.Me != "bb" || v.Table != "aa 2 5461-10921\nbb 1 0-10 12 14-5460" || v.Masters["aa"] != Tag(5461) || v.Masters["bb"] != Tag(0) || len(v.Masters) != 2 {
		t.Errorf("%+v", v)
	}
	if v.ToUnknown() {
		t.Error("aa has slots")
	}
	if v, err := ParseNodes(strings.Replace(nodes, "->-aa", "->-dd", 1)); err != nil || !v.ToUnknown() {
		t.Errorf("dd has none: %+v, %v", v, err)
	}
	if !slices.Equal(v.Leaving, []Move{{11, "aa"}}) {
		t.Errorf("leaving: %v", v.Leaving)
	}
	for slot, want := range map[uint16]string{0: "bb", 10: "bb", 11: "", 12: "bb", 13: "", 14: "bb", 5460: "bb", 5461: "aa", 10921: "aa", 10922: ""} {
		if got := v.Owner(slot); got != want {
			t.Errorf("slot %d: served by %q, want %q", slot, got, want)
		}
	}
	for _, bad := range []string{"aa x master - 0 1 2 connected 1-x", "aa x myself,master - 0 1 2 connected [x->-aa]", "aa 127.0.0.1:1 master", "aa x master - 0 1 2 connected x", "aa x master - 0 1 2 connected 16384"} {
		if _, err := ParseNodes(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}
