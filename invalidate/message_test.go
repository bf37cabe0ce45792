package invalidate

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The golden messages of version 1. They are never to change: processes of all
// releases share the channels. docs/protocol.md shows the first two.
var golden = []struct {
	name  string
	hex   string
	all   bool
	from  Sender
	nonce uint64
	keys  []string
}{
	{
		name:  "keys",
		hex:   "0101" + "0123456789abcdef" + "000000000000002a" + "0475736572" + "023432",
		from:  Sender{0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef},
		nonce: 42,
		keys:  []string{"user", "42"},
	},
	{
		name: "all",
		hex:  "0102" + "0123456789abcdef" + "0000000000000000",
		all:  true,
		from: Sender{0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef},
	},
	{
		name:  "an empty key, one that is no UTF-8, one of 200 bytes",
		hex:   "0101" + "ffffffffffffffff" + "ffffffffffffffff" + "00" + "03ff0080" + "c801" + strings.Repeat("61", 200),
		from:  Sender{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		nonce: math.MaxUint64,
		keys:  []string{"", "\xff\x00\x80", strings.Repeat("a", 200)},
	},
}

func TestQuestionAndAnswerAreTheseBytes(t *testing.T) {
	from := Sender{1, 2, 3, 4, 5, 6, 7, 8}
	for kind, want := range map[byte]string{
		kindAsk:    "0103" + "0102030405060708" + "000000000000002a",
		kindAnswer: "0104" + "0102030405060708" + "000000000000002a",
	} {
		b := appendHeader(nil, kind, from, 42)
		if got := hex.EncodeToString(b); got != want {
			t.Errorf("kind %d: writes %s, want %s", kind, got, want)
		}
		if m, err := parse(string(b)); err != nil || m != (message{kind, from, 42, ""}) {
			t.Errorf("kind %d: reads %+v, %v", kind, m, err)
		}
	}
}

func TestVersion1IsTheseBytes(t *testing.T) {
	for _, g := range golden {
		t.Run(g.name, func(t *testing.T) {
			want, err := hex.DecodeString(g.hex)
			if err != nil {
				t.Fatal(err)
			}
			got, n := AppendAll(nil, g.from), 0
			if !g.all {
				got, n = AppendKeys(nil, g.from, g.nonce, g.keys)
			}
			if !bytes.Equal(got, want) || n != len(g.keys) {
				t.Errorf("writes\n%x (%d keys)\nwant\n%x", got, n, want)
			}
			m, err := parse(string(want))
			if err != nil {
				t.Fatal(err)
			}
			if (m.kind == kindAll) != g.all || m.from != g.from || m.nonce != g.nonce || !slices.Equal(m.list(), g.keys) {
				t.Errorf("reads %+v", m)
			}
		})
	}
}

// The page for other languages shows the golden bytes.
func TestTheProtocolPageShowsTheGoldenBytes(t *testing.T) {
	page, err := os.ReadFile("../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	squeezed := strings.NewReplacer(" ", "", "\n", "", "`", "").Replace(string(page))
	for _, g := range golden[:2] {
		if !strings.Contains(squeezed, g.hex) {
			t.Errorf("%s is not in docs/protocol.md: %s", g.name, g.hex)
		}
	}
}

func (m message) list() (keys []string) {
	for rest := m.keys; rest != ""; {
		var k string
		k, rest, _ = cutKey(rest)
		keys = append(keys, k)
	}
	return keys
}

func TestKeysOfAnyBytesSurviveTheWire(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var from Sender
		copy(from[:], rapid.SliceOfN(rapid.Byte(), 8, 8).Draw(t, "sender"))
		nonce := rapid.Uint64().Draw(t, "nonce")
		key := rapid.Custom(func(t *rapid.T) string {
			return string(rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "key"))
		})
		keys := rapid.SliceOfN(key, 1, 500).Draw(t, "keys")
		prefix := rapid.SliceOf(rapid.Byte()).Draw(t, "prefix")

		var got []string
		for rest, next := keys, nonce; len(rest) > 0; {
			b, n := AppendKeys(bytes.Clone(prefix), from, next, rest)
			if n == 0 {
				t.Fatal("a short key does not fit")
			}
			if !bytes.HasPrefix(b, prefix) {
				t.Fatal("what was there has changed")
			}
			b = b[len(prefix):]
			if len(b) > MaxMessage {
				t.Fatalf("a message of %d bytes", len(b))
			}
			m, err := parse(string(b))
			if err != nil {
				t.Fatal(err)
			}
			if (m.kind == kindAll) || m.from != from || m.nonce != next {
				t.Fatalf("got %v %x %d", (m.kind == kindAll), m.from, m.nonce)
			}
			if l := m.list(); len(l) != n {
				t.Fatalf("%d keys are read, %d were written", len(l), n)
			}
			got = append(got, m.list()...)
			rest, next = rest[n:], next+uint64(n)
		}
		if !slices.Equal(got, keys) {
			t.Fatalf("got %q, want %q", got, keys)
		}
	})
}

func TestAMessageHoldsAsManyKeysAsFit(t *testing.T) {
	longest := MaxMessage - headerLen - binary.MaxVarintLen32
	tests := []struct {
		name string
		keys []string
		fit  int
	}{
		{"the longest key", []string{strings.Repeat("k", longest)}, 1},
		{"one byte longer", []string{strings.Repeat("k", longest+1)}, 0},
		{"far longer", []string{strings.Repeat("k", 10*MaxMessage)}, 0},
		{"short, too long, short", []string{"a", strings.Repeat("k", longest), "b"}, 1},
		{"a hundred thousand empty keys", make([]string, 100_000), MaxMessage - headerLen - binary.MaxVarintLen32 + 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, n := AppendKeys(nil, Sender{}, 1, tt.keys)
			if n != tt.fit || len(b) > MaxMessage {
				t.Fatalf("%d keys in %d bytes, want %d keys", n, len(b), tt.fit)
			}
			if n == 0 {
				return
			}
			if m, err := parse(string(b)); err != nil || !slices.Equal(m.list(), tt.keys[:n]) {
				t.Errorf("it reads back as %d keys, %v", len(m.list()), err)
			}
		})
	}
}

// malformed is what no sender of version 1 writes.
func malformed() map[string]string {
	good, _ := AppendKeys(nil, Sender{1}, 7, []string{"key"})
	head := string(good[:headerLen])
	all := string(AppendAll(nil, Sender{1}))
	over := head + strings.Repeat("\x00", MaxMessage-headerLen+1)
	return map[string]string{
		"nothing":                        "",
		"text":                           "hello",
		"version 0":                      "\x00" + string(good[1:]),
		"version 2":                      "\x02" + string(good[1:]),
		"version 255, one byte":          "\xff",
		"only a version":                 "\x01",
		"a header cut short":             head[:headerLen-1],
		"kind 0":                         "\x01\x00" + head[2:] + "\x01k",
		"kind 5":                         "\x01\x05" + head[2:],
		"a byte after a question":        "\x01\x03" + head[2:] + "x",
		"a byte after an answer":         "\x01\x04" + head[2:] + "x",
		"no key":                         head,
		"bytes after all":                all + "\x00",
		"a key cut short":                string(good[:len(good)-1]),
		"a length without its end":       head + "\x80",
		"a length of five bytes, no end": head + "\xff\xff\xff\xff\xff",
		"a length of ten bytes":          head + "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
		"a length of 2^35-1":             head + "\xff\xff\xff\xff\x7f",
		"a length in a longer form":      head + "\x83\x00key",
		"zero in a longer form":          head + "\x80\x80\x00",
		"a good key, then a bad one":     string(good) + "\x05four",
		"longer than MaxMessage":         over,
	}
}

func TestMalformedMessagesAreRejectedWhole(t *testing.T) {
	for name, s := range malformed() {
		if m, err := parse(s); err == nil {
			t.Errorf("%s: accepted as %+v", name, m)
		}
	}
}

// Whatever is accepted is what AppendKeys or AppendAll would write, but for the
// nonce of a message about the whole cache, which nobody reads.
func FuzzParse(f *testing.F) {
	for _, g := range golden {
		b, _ := hex.DecodeString(g.hex)
		f.Add(b)
	}
	for _, s := range malformed() {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parse(string(b))
		if err != nil {
			return
		}
		switch m.kind {
		case kindAsk, kindAnswer:
			if again := appendHeader(nil, m.kind, m.from, m.nonce); !bytes.Equal(again, b) {
				t.Fatalf("%x is written as %x", b, again)
			}
			return
		case kindAll:
			again := AppendAll(nil, m.from)
			binary.BigEndian.PutUint64(again[10:], m.nonce)
			if !bytes.Equal(again, b) {
				t.Fatalf("%x is written as %x", b, again)
			}
			return
		}
		// Within a few bytes of the bound a writer would begin another message.
		again := appendHeader(nil, kindKeys, m.from, m.nonce)
		for _, k := range m.list() {
			again = append(binary.AppendUvarint(again, uint64(len(k))), k...)
		}
		if !bytes.Equal(again, b) {
			t.Fatalf("%x is written as %x", b, again)
		}
		if written, n := AppendKeys(nil, m.from, m.nonce, m.list()); n == len(m.list()) && !bytes.Equal(written, b) {
			t.Fatalf("%x is written as %x", b, written)
		}
	})
}
