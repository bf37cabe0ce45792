package codec

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type point struct {
	X, Y int
	Tag  string `json:"tag,omitempty" msgpack:"tag,omitempty"`
}

type (
	name  string
	level int8
	blob  []byte
)

// encode is Append behind a prefix, which must stay.
func encode[V any](t *testing.T, c Codec[V], v V) []byte {
	t.Helper()
	const prefix = "prefix"
	out, err := c.Append([]byte(prefix), v)
	if err != nil {
		t.Fatalf("Append(%v): %v", v, err)
	}
	if !strings.HasPrefix(string(out), prefix) {
		t.Fatalf("Append(%v) changed what was there: %q", v, out)
	}
	return out[len(prefix):]
}

func golden[V any](t *testing.T, c Codec[V], v V, want string) {
	t.Helper()
	if got := string(encode(t, c, v)); got != want {
		t.Errorf("Append(%#v): got %q, want %q", v, got, want)
	}
	decodes(t, c, want, v)
}

func decodes[V any](t *testing.T, c Codec[V], data string, want V) {
	t.Helper()
	b := []byte(data)
	got, err := c.Decode(b)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("Decode(%q): got %#v, %v; want %#v", data, got, err, want)
		return
	}
	for i := range b { // a reference that was kept would show
		b[i] = 'X'
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("Decode(%q) kept a reference to its argument", data)
	}
}

func refuses[V any](t *testing.T, c Codec[V], data string) {
	t.Helper()
	got, err := c.Decode([]byte(data))
	if !errors.Is(err, ErrDecode) {
		t.Errorf("Decode(%.40q): got %#v, %v; want ErrDecode", data, got, err)
		return
	}
	if !reflect.ValueOf(&got).Elem().IsZero() {
		t.Errorf("Decode(%.40q) returned %#v beside its error", data, got)
	}
	if len(err.Error()) > 400 {
		t.Errorf("the error has %d bytes", len(err.Error()))
	}
}

// The bytes of these tests are the wire format: they never change.
func TestGoldenBytes(t *testing.T) {
	golden(t, String[string](), "", "")
	golden(t, String[name](), "h\x00\xffé\r\n", "h\x00\xffé\r\n")
	golden(t, Bytes[[]byte](), []byte{}, "")
	golden(t, Bytes[blob](), blob{0, '\r', '\n', 0xff}, "\x00\r\n\xff")
	golden(t, Int[int](), 0, "0")
	golden(t, Int[int](), -42, "-42")
	golden(t, Int[int64](), math.MinInt64, "-9223372036854775808")
	golden(t, Int[int64](), math.MaxInt64, "9223372036854775807")
	golden(t, Int[uint64](), math.MaxUint64, "18446744073709551615")
	golden(t, Int[level](), -128, "-128")
	golden(t, JSON[point](), point{1, 2, "<é>"}, `{"X":1,"Y":2,"tag":"<é>"}`)
	golden(t, JSON[map[string]int](), nil, `null`)
	golden(t, JSON[[]string](), []string{}, `[]`)
	golden(t, JSON[any](), any(json.Number("4244637855813302974")), `4244637855813302974`)
	golden(t, Msgpack[point](), point{1, 300, ""}, "\x82\xa1X\x01\xa1Y\xcd\x01\x2c")
	golden(t, Msgpack[[]int](), []int{}, "\x90")
	golden(t, Msgpack[[]int](), nil, "\xc0")
	golden(t, Msgpack[*point](), nil, "\xc0")
}

// What Python 3 writes by str(v) and json.dumps(v).
func TestReadsWhatPythonWrites(t *testing.T) {
	decodes(t, Int[int](), "-17", -17)
	decodes(t, String[string](), "caf\xc3\xa9", "café")
	decodes(t, JSON[map[string]any](), `{"state": 1, "orders": [1, 2], "name": "caf\u00e9", "none": null, "pi": 3.5, "big": 9007199254740993}`,
		map[string]any{"state": json.Number("1"), "orders": []any{json.Number("1"), json.Number("2")}, "name": "café",
			"none": nil, "pi": json.Number("3.5"), "big": json.Number("9007199254740993")})
	decodes(t, JSON[string](), `"\ud83d\ude00 \u2028"`, "😀 \u2028")
}

func TestIntRefusesWhatIsNoDecimal(t *testing.T) {
	for _, s := range []string{"", " 1", "1 ", "+1", "-", "-0", "007", "-01", "1_000", "1.0", "1e3", "0x1", "١", "\x00",
		"9223372036854775808", "-9223372036854775809", "99999999999999999999999"} {
		refuses(t, Int[int64](), s)
	}
	refuses(t, Int[uint64](), "18446744073709551616")
	refuses(t, Int[uint8](), "256")
	refuses(t, Int[uint8](), "-1")
	refuses(t, Int[int8](), "128")
	refuses(t, Int[int8](), "-129")
}

func TestJSONRefusesWhatIsNotOneValue(t *testing.T) {
	for _, s := range []string{"", " ", "{", `{"X":1}{}`, `{"X":1} x`, `{"X":"one"}`, `{"X":1.5}`, "null", " null ", "[1]", "\xff",
		strings.Repeat("[", 1_000_000)} {
		refuses(t, JSON[point](), s)
		refuses(t, StrictJSON[point](), s)
	}
	refuses(t, JSON[any](), `1 2`)
	refuses(t, JSON[any](), strings.Repeat("[", 1_000_000))
	refuses(t, StrictJSON[point](), `{"X":1,"new":2}`)
	decodes(t, JSON[point](), ` {"X":1,"new":2} `, point{X: 1})
	decodes(t, StrictJSON[point](), ` {"X":1} `, point{X: 1})
	refuses(t, JSON[int](), "null")
	decodes(t, JSON[*point](), "null", nil)
}

func TestMsgpackRefusesWhatIsNotOneValue(t *testing.T) {
	huge := []string{
		"\xdd\xff\xff\xff\xff", "\xdf\xff\xff\xff\xff", "\xdb\xff\xff\xff\xff", "\xc6\xff\xff\xff\xff", "\xc9\xff\xff\xff\xff\x01",
		"\x92\xdd\xff\xff\xff\xff\x01", "\x81\xa1X\xdd\xff\xff\xff\xff",
		strings.Repeat("\x91", 1_000_000), strings.Repeat("\x81\x01", 500_000),
	}
	for _, s := range append(huge, "", "\xc1", "\x01\x01", "\x82\xa1X\x01", "\xc0", "\xd9") {
		refuses(t, Msgpack[point](), s)
	}
	for _, s := range huge {
		refuses(t, Msgpack[any](), s)
		refuses(t, Msgpack[[]any](), s)
		refuses(t, Msgpack[map[string]string](), s)
		refuses(t, Msgpack[[]string](), s)
		refuses(t, Msgpack[[]byte](), s)
	}
}

func TestHostileLengthsCostNoMemory(t *testing.T) {
	var before, after runtimeStats
	before.read()
	for range 1000 {
		Msgpack[[]any]().Decode([]byte("\xdd\xff\xff\xff\xff"))
		Msgpack[map[string]any]().Decode([]byte("\xdf\xff\xff\xff\xff"))
	}
	after.read()
	if n := (after.allocated - before.allocated) / 2000; n > 4096 {
		t.Errorf("%d bytes were allocated for each message of 5", n)
	}
}

type withTime struct {
	T  time.Time
	P  *time.Time
	A  any
	In *point
	S  []int
}

// The reader gets what was stored, or Append says that it will not.
func TestReaderGetsWhatWasStored(t *testing.T) {
	zoned := time.Date(2026, 11, 26, 12, 0, 0, 123456789, time.FixedZone("X", 3600))
	values := []withTime{
		{},
		{T: zoned, P: &zoned, S: []int{}},
		{T: time.Now(), In: &point{1, 2, "t"}, S: []int{1}},
		{A: "text"},
		{A: map[string]any{"a": "b"}},
	}
	for _, c := range []Codec[withTime]{JSON[withTime](), Msgpack[withTime]()} {
		for _, v := range values {
			got, err := c.Decode(encode(t, c, v))
			if err != nil {
				t.Errorf("%T: %+v: only the reader got an error: %v", c, v, err)
				continue
			}
			if !got.T.Equal(v.T) || (got.P == nil) != (v.P == nil) || v.P != nil && !got.P.Equal(*v.P) ||
				!reflect.DeepEqual(got.In, v.In) || !reflect.DeepEqual(got.S, v.S) || !reflect.DeepEqual(got.A, v.A) {
				t.Errorf("%T: got %+v, want %+v", c, got, v)
			}
		}
	}
	got, err := Msgpack[any]().Decode(encode(t, Msgpack[any](), any(map[int]string{1: "a"})))
	if want := any(map[any]any{int64(1): "a"}); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("map[int]string in an any: got %#v, %v; want %#v", got, err, want)
	}
	for _, zero := range []any{time.Time{}, zoned} {
		got, err := Msgpack[any]().Decode(encode(t, Msgpack[any](), zero))
		if at, ok := got.(time.Time); err != nil || !ok || !at.Equal(zero.(time.Time)) {
			t.Errorf("a time in an any: got %v, %v; want %v", got, err, zero)
		}
	}
	for _, v := range []any{make(chan int), func() {}} {
		if _, err := Msgpack[any]().Append(nil, v); !errors.Is(err, ErrEncode) {
			t.Errorf("Append(%T): got %v, want ErrEncode", v, err)
		}
		if _, err := JSON[any]().Append(nil, v); !errors.Is(err, ErrEncode) {
			t.Errorf("Append(%T): got %v, want ErrEncode", v, err)
		}
	}
	if _, err := JSON[float64]().Append(nil, math.NaN()); !errors.Is(err, ErrEncode) {
		t.Errorf("NaN as JSON: got %v, want ErrEncode", err)
	}
}

func TestFuncKeepsTheContract(t *testing.T) {
	c := Func(func(dst []byte, p point) ([]byte, error) {
		if p.X < 0 {
			panic("negative")
		}
		return append(dst, byte(p.X), byte(p.Y)), nil
	}, func(data []byte) (point, error) {
		return point{X: int(data[0]), Y: int(data[1])}, nil
	})
	golden(t, c, point{X: 1, Y: 2}, "\x01\x02")
	refuses(t, c, "\x01") // the index panics
	if out, err := c.Append([]byte("a"), point{X: -1}); !errors.Is(err, ErrEncode) || string(out) != "a" {
		t.Errorf("a panic in encode: got %q, %v", out, err)
	}
	keeps := Func(nil, func(data []byte) ([]byte, error) { return data, nil })
	decodes(t, keeps, "kept", []byte("kept"))
	if _, err := keeps.Append(nil, nil); !errors.Is(err, ErrEncode) {
		t.Errorf("a nil function: got %v, want ErrEncode", err)
	}
}

func TestVersionedReadsOlderReleases(t *testing.T) {
	c, err := Versioned(Versions[point]{
		Current: 2, Codec: JSON[point](),
		Older: map[byte]func([]byte) (point, error){
			1: func(data []byte) (point, error) {
				x, err := Int[int]().Decode(data)
				return point{X: x}, err
			},
		},
		Unversioned: func(data []byte) (point, error) { return JSON[point]().Decode(data) },
	})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, c, point{1, 2, ""}, "\x02"+`{"X":1,"Y":2}`)
	decodes(t, c, "\x0117", point{X: 17})
	decodes(t, c, `{"X":3}`, point{X: 3})
	refuses(t, c, "")
	refuses(t, c, "\x03{}")
	refuses(t, c, "\x01seventeen")

	closed, err := Versioned(Versions[point]{Current: 2, Codec: JSON[point]()})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"", "\x01", "\x03{}", "{}"} {
		if _, err := closed.Decode([]byte(s)); !errors.Is(err, ErrVersion) || !errors.Is(err, ErrDecode) {
			t.Errorf("Decode(%q): got %v, want ErrVersion and ErrDecode", s, err)
		}
	}
	for _, bad := range []Versions[point]{
		{Current: 1},
		{Current: 1, Codec: JSON[point](), Older: map[byte]func([]byte) (point, error){1: closed.Decode}},
		{Current: 1, Codec: JSON[point](), Older: map[byte]func([]byte) (point, error){2: nil}},
	} {
		if _, err := Versioned(bad); err == nil {
			t.Errorf("Versioned(%+v): no error", bad)
		}
	}
}

func hasDefault[V any](t *testing.T, v V, want string) {
	t.Helper()
	c, err := Default[V]()
	if err != nil {
		t.Errorf("Default[%T]: %v", v, err)
		return
	}
	golden(t, c, v, want)
}

func hasNone[V any](t *testing.T) {
	t.Helper()
	if c, err := Default[V](); err == nil || !strings.Contains(err.Error(), reflect.TypeFor[V]().String()) {
		t.Errorf("Default[%v]: got %T, %v; want an error that names the type", reflect.TypeFor[V](), c, err)
	}
}

func TestDefaultFitsTheType(t *testing.T) {
	hasDefault(t, "text", "text")
	hasDefault(t, name("text"), "text")
	hasDefault(t, 42, "42")
	hasDefault(t, level(-1), "-1")
	hasDefault(t, uint64(math.MaxUint64), "18446744073709551615")
	hasDefault(t, time.Second, "1000000000")
	hasDefault(t, []byte("raw"), "raw")
	hasDefault(t, blob("raw"), "raw")
	hasDefault(t, point{1, 2, ""}, `{"X":1,"Y":2}`)
	hasDefault(t, &point{1, 2, ""}, `{"X":1,"Y":2}`)
	hasDefault(t, map[string]int{"a": 1}, `{"a":1}`)
	hasDefault(t, any("x"), `"x"`)
	hasDefault(t, [3]byte{1, 2, 3}, `[1,2,3]`)
	hasDefault(t, time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), `"2026-01-02T03:04:05.000000006Z"`)
	hasDefault(t, struct{}{}, `{}`)
	hasDefault(t, true, `true`)
	hasNone[chan int](t)
	hasNone[func()](t)
	hasNone[complex128](t)
	hasNone[struct{ a int }](t)
	hasNone[map[string]chan int](t)
	hasNone[struct{ E error }](t)
	c, err := Default[level]()
	if err != nil {
		t.Fatal(err)
	}
	refuses(t, c, "128")
}

func TestPlainCodecsAllocateNothing(t *testing.T) {
	buf, digits, ints := make([]byte, 0, 64), []byte("1234567"), Int[int]()
	for what, f := range map[string]func(){
		"string": func() { String[string]().Append(buf, "text") },
		"int":    func() { ints.Append(buf, 1234567) },
		"bytes":  func() { Bytes[[]byte]().Append(buf, buf) },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: Append allocates %v times", what, n)
		}
	}
	if n := testing.AllocsPerRun(100, func() { ints.Decode(digits) }); n != 0 {
		t.Errorf("int: Decode allocates %v times", n)
	}
}

func TestErrorsShowTheBeginningOfTheBytesOnly(t *testing.T) {
	_, err := Int[int]().Decode(bytes.Repeat([]byte("secret "), 1000))
	if err == nil || len(err.Error()) > 200 || !strings.Contains(err.Error(), "7000 bytes") {
		t.Errorf("got %v", err)
	}
}
