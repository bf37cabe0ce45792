package slots

import (
	"strings"
	"testing"
)

// Whatever a node says of its cluster: an error, or masters that each serve a slot
// and stand in the table, in which every change of hands shows.
func FuzzParseNodes(f *testing.F) {
	good := "07c37df 127.0.0.1:30004@31004,host slave e7d1eec 0 1426238317239 4 connected\n" +
		"e7d1eec 127.0.0.1:30001@31001 myself,master - 0 0 1 connected 0-5460 [93->-292f8b3]\n" +
		"6ec2392 127.0.0.1:30003@31003 master - 0 1426238318243 3 connected 10923 10925-16383\n"
	f.Add(good)
	f.Add("txt:" + good)
	f.Add(strings.Replace(good, "0-5460", "99999-5460", 1))
	f.Add(strings.Replace(good, "0-5460", "x", 1))
	f.Add("a b c")
	f.Fuzz(func(t *testing.T, reply string) {
		v, err := ParseNodes(reply)
		if err != nil {
			return
		}
		for id, tag := range v.Masters {
			if !strings.Contains("\n"+v.Table, "\n"+id+" ") {
				t.Fatalf("%q serves slots and is not in %q", id, v.Table)
			}
			if slot := Of("{" + tag + "}x"); Tag(slot) != tag {
				t.Fatalf("%q: %q is no tag of a slot", id, tag)
			}
		}
		if len(v.Masters) == 0 != (v.Table == "") {
			t.Fatalf("%d masters, and the table is %q", len(v.Masters), v.Table)
		}
		if again, err := ParseNodes(reply); err != nil || again.Table != v.Table || again.Me != v.Me {
			t.Fatal("the same reply is understood in two ways")
		}
	})
}
