package codec

import (
	"bytes"
	"errors"
	"reflect"
	"runtime"
	"testing"
)

type runtimeStats struct{ allocated uint64 }

func (r *runtimeStats) read() {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	r.allocated = m.TotalAlloc
}

// arbitrary decodes any bytes: an error, or a value that survives the way back.
func arbitrary[V any](t *testing.T, c Codec[V], data []byte) {
	kept := bytes.Clone(data)
	v, err := c.Decode(data)
	if !bytes.Equal(kept, data) {
		t.Fatalf("%T: Decode changed its argument", c)
	}
	if err != nil {
		if !errors.Is(err, ErrDecode) {
			t.Fatalf("%T: Decode(%q): %v is no ErrDecode", c, data, err)
		}
		return
	}
	out, err := c.Append(nil, v)
	if err != nil {
		t.Fatalf("%T: %#v, decoded from %q, does not encode: %v", c, v, data, err)
	}
	again, err := c.Decode(out)
	if err != nil {
		t.Fatalf("%T: Decode(%q): %v", c, out, err)
	}
	if third, err := c.Append(nil, again); err != nil || !sameBytes(out, third) {
		t.Fatalf("%T: %q, then %q, %v", c, out, third, err)
	}
}

// sameBytes compares encodings of maps, too, whose order is free.
func sameBytes(a, b []byte) bool {
	var na, nb [256]int
	for _, c := range a {
		na[c]++
	}
	for _, c := range b {
		nb[c]++
	}
	return na == nb
}

func FuzzDecodeArbitraryBytes(f *testing.F) {
	for _, s := range []string{"", "0", "-1", "null", `{"X":1}`, `[1,2]`, `"a"`, "\x82\xa1X\x01\xa1Y\xcd\x01\x2c", "\xdd\xff\xff\xff\xff",
		"\xd6\xff\x00\x00\x00\x01", "\xc7\x00\x01", "\x81\xc0\x01", "\x81\x90\x01", "\x02{}", "1e400", "\xcb\x7f\xf8\x00\x00\x00\x00\x00\x01"} {
		f.Add([]byte(s))
	}
	versioned, err := Versioned(Versions[point]{Current: 2, Codec: JSON[point](), Unversioned: JSON[point]().Decode})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		arbitrary(t, String[string](), data)
		arbitrary(t, Bytes[[]byte](), data)
		arbitrary(t, Int[int](), data)
		arbitrary(t, Int[uint8](), data)
		arbitrary(t, JSON[any](), data)
		arbitrary(t, JSON[point](), data)
		arbitrary(t, StrictJSON[map[string][]point](), data)
		arbitrary(t, Msgpack[any](), data)
		arbitrary(t, Msgpack[point](), data)
		arbitrary(t, Msgpack[map[string][]string](), data)
		arbitrary(t, versioned, data)
	})
}

func identity[V any](t *testing.T, c Codec[V], v V) {
	out, err := c.Append(nil, v)
	if err != nil {
		t.Fatalf("%T: Append(%#v): %v", c, v, err)
	}
	got, err := c.Decode(out)
	if err != nil || !reflect.DeepEqual(got, v) {
		t.Fatalf("%T: %#v came back as %#v, %v", c, v, got, err)
	}
}

func FuzzIdentity(f *testing.F) {
	f.Add("", int64(0), uint64(0), []byte{})
	f.Add("é\x00\xff", int64(-1), uint64(1<<63), []byte{0, 255})
	f.Fuzz(func(t *testing.T, s string, i int64, u uint64, b []byte) {
		if b == nil {
			b = []byte{}
		}
		identity(t, String[string](), s)
		identity(t, Bytes[[]byte](), b)
		identity(t, Int[int64](), i)
		identity(t, Int[int8](), int8(i))
		identity(t, Int[uint64](), u)
		identity(t, JSON[[]byte](), b)
		identity(t, JSON[[]int64](), []int64{i})
		identity(t, Msgpack[point](), point{int(i), int(u), s})
		identity(t, Msgpack[map[string][]byte](), map[string][]byte{s: b})
	})
}
