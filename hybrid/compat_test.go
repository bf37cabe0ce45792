package hybrid

import (
	"encoding/json"
	"errors"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/flipcache/flipcache/codec"
	"github.com/flipcache/flipcache/internal/redisserver"
	"github.com/flipcache/flipcache/internal/redistest"
	"github.com/flipcache/flipcache/invalidate"
)

// What FlipCache 1.3 for Python stores: under "name:key", both as str() writes
// them, the value as str(), as an int's decimals, or as json.dumps writes it:
// with ", " and ": " between, and every character beyond ASCII as \uXXXX.

type profile struct {
	Name  string         `json:"name"`
	Hits  int            `json:"hits"`
	Ratio float64        `json:"ratio"`
	Admin bool           `json:"admin"`
	Tags  []string       `json:"tags"`
	Next  *string        `json:"next"`
	Sub   map[string]int `json:"sub"`
}

var (
	profileValue = profile{Name: "José 😀 <&>", Hits: 3, Ratio: 0.5, Tags: []string{"a", "日本"}, Sub: map[string]int{"x": 1}}
	// json.dumps of the same.
	profileDumps = `{"name": "Jos\u00e9 \ud83d\ude00 <&>", "hits": 3, "ratio": 0.5, "admin": false, "tags": ["a", "\u65e5\u672c"], "next": null, "sub": {"x": 1}}`
)

// readsPython has the cache read each of Python's bytes.
func readsPython[V any](t *testing.T, s *redisserver.Server, name string, o Options[string, V], values map[string]V) {
	t.Helper()
	admin := redistest.Client(t, s)
	st := openStore(t, s, invalidate.PubSub)
	c := newOn(t, st, name, o)
	for raw, want := range values {
		redistest.Do(t, admin, "SET", name+":k", raw, "EX", "900")
		if got, err := c.Fresh().Get(ctx, "k"); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s %s: got %#v, %v; want %#v", name, raw, got, err, want)
		}
	}
}

func writesForPython[K Key, V any](t *testing.T, s *redisserver.Server, name string, o Options[K, V], key K, redisKey string, values map[string]V) {
	t.Helper()
	admin := redistest.Client(t, s)
	st := openStore(t, s, invalidate.PubSub)
	c := newOn(t, st, name, o)
	for want, v := range values {
		if err := c.SetTTL(ctx, key, v, 15*time.Minute); err != nil {
			t.Fatal(err)
		}
		m := redistest.Do(t, admin, "GET", redisKey)
		if got, err := m.ToString(); err != nil || got != want {
			t.Errorf("%s holds %q, %v; want %q", redisKey, got, err, want)
		}
	}
}

func TestValuesOfThePythonPackageAreRead(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		readsPython(t, s, "str", Options[string, string]{}, map[string]string{
			"plain": "plain", "": "", "None": "None", "3": "3", "José 😀": "José 😀", " a\nb ": " a\nb ", "['a', 1]": "['a', 1]"})
		readsPython(t, s, "int", Options[string, int64]{}, map[string]int64{
			"0": 0, "-1": -1, "42": 42, "9007199254740993": 1<<53 + 1, "9223372036854775807": 1<<63 - 1, "-9223372036854775808": -1 << 63})
		readsPython(t, s, "profile", Options[string, profile]{}, map[string]profile{profileDumps: profileValue})
		readsPython(t, s, "map", Options[string, map[string]int]{}, map[string]map[string]int{
			`{}`: {}, `{"a": 1, "\u00e9": 2}`: {"a": 1, "é": 2}, `{"1": 2}`: {"1": 2}, `null`: nil})
		readsPython(t, s, "list", Options[string, []string]{}, map[string][]string{
			`[]`: {}, `["a", "\u00e9", "\"\\\n\t\u0001/"]`: {"a", "é", "\"\\\n\t\x01/"}})
		readsPython(t, s, "float", Options[string, float64]{}, map[string]float64{`0.1`: 0.1, `1e+16`: 1e16, `1e-07`: 1e-7, `-0.0`: 0, `5`: 5})
		readsPython(t, s, "bool", Options[string, bool]{}, map[string]bool{`true`: true, `false`: false})
		readsPython(t, s, "text", Options[string, string]{Codec: codec.JSON[string]()}, map[string]string{
			`""`: "", `"\u00e9"`: "é", `"\ud83d\ude00"`: "😀", `"a/b"`: "a/b", `"\u2028"`: "\u2028"})
		readsPython(t, s, "any", Options[string, any]{}, map[string]any{
			`null`: nil, `[1, "a", null, true]`: []any{json.Number("1"), "a", nil, true}, `4244637855813302974`: json.Number("4244637855813302974")})
	})
}

// json.dumps writes these although they are no JSON; int() reads the others.
func TestWhatPythonWritesBeyondItsTypeIsADecodeError(t *testing.T) {
	s := redistest.Embedded(t)
	admin := redistest.Client(t, s)
	st := openStore(t, s, invalidate.Off)
	floats, ints := newOn(t, st, "float", Options[string, float64]{}), newOn(t, st, "int", Options[string, int64]{})
	for _, raw := range []string{"NaN", "Infinity", "-Infinity", "1e400"} {
		redistest.Do(t, admin, "SET", "float:k", raw)
		if v, err := floats.Fresh().Get(ctx, "k"); !errors.Is(err, ErrDecode) {
			t.Errorf("%s: %v, %v; want ErrDecode", raw, v, err)
		}
	}
	for _, raw := range []string{"9223372036854775808", "True", "1.0", "1_000", " 1"} {
		redistest.Do(t, admin, "SET", "int:k", raw)
		if v, err := ints.Fresh().Get(ctx, "k"); !errors.Is(err, ErrDecode) {
			t.Errorf("%s: %v, %v; want ErrDecode", raw, v, err)
		}
	}
}

func TestValuesAreWrittenAsThePythonPackageReadsThem(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		writesForPython(t, s, "str", Options[string, string]{}, "k", "str:k", map[string]string{"plain": "plain", "": "", "José 😀": "José 😀"})
		writesForPython(t, s, "int", Options[string, int64]{}, "k", "int:k", map[string]int64{"0": 0, "-1": -1, "9007199254740993": 1<<53 + 1})
		// Other separators than json.dumps', and no escapes: the same to json.loads.
		writesForPython(t, s, "json", Options[string, profile]{}, "k", "json:k", map[string]profile{
			`{"name":"José 😀 <&>","hits":3,"ratio":0.5,"admin":false,"tags":["a","日本"],"next":null,"sub":{"x":1}}`: profileValue})

		writesForPython(t, s, "keys", Options[int, string]{}, -7, "keys:-7", map[string]string{"v": "v"})
		writesForPython(t, s, "keys", Options[int64, string]{}, 1<<62, "keys:4611686018427387904", map[string]string{"v": "v"})
		writesForPython(t, s, "keys", Options[string, string]{}, "a:b é", "keys:a:b é", map[string]string{"v": "v"})
		writesForPython(t, s, "keys", Options[string, string]{}, "", "keys:", map[string]string{"v": "v"})
	})
}

// pythonProgram stores, reads, and compares, as FlipCache 1.3 does: arguments
// are host, port, and "write" or "read".
const pythonProgram = `
import json, sys, redis
r = redis.Redis(host=sys.argv[1], port=int(sys.argv[2]), decode_responses=True)
profile = {"name": "Jos\u00e9 \U0001F600 <&>", "hits": 3, "ratio": 0.5, "admin": False,
           "tags": ["a", "\u65e5\u672c"], "next": None, "sub": {"x": 1}}
values = [
    ("p-str", "plain", "a b", str, str),
    ("p-str", "empty", "", str, str),
    ("p-str", "a:b \u00e9", "Jos\u00e9 \U0001F600", str, str),
    ("p-int", -7, 2**53 + 1, str, int),
    ("p-int", 0, 0, str, int),
    ("p-json", "k", profile, json.dumps, json.loads),
]
for name, key, value, encode, decode in values:
    at = "{}:{}".format(name, key)
    if sys.argv[3] == "write":
        r.set(at, encode(value), ex=900)
    else:
        got = r.get(at)
        if got is None or decode(got) != value:
            sys.exit("{}: got {!r}, want {!r}".format(at, got, value))
`

// python runs pythonProgram where it can be run, and skips the test otherwise.
func python(t *testing.T, args ...string) {
	t.Helper()
	for _, name := range []string{"python3", "/usr/bin/python3"} {
		if exec.Command(name, "-c", "import redis").Run() != nil {
			continue
		}
		if out, err := exec.Command(name, append([]string{"-c", pythonProgram}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
		return
	}
	t.Skip("no python3 with the module redis: nothing to compare with (Debian: apt-get install python3-redis)")
}

func TestPythonProcessSharesKeysAndValues(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		host, port, _ := strings.Cut(s.Addr, ":")
		admin := redistest.Client(t, s)
		st := openStore(t, s, invalidate.PubSub)
		texts := newOn(t, st, "p-str", Options[string, string]{TTL: 15 * time.Minute})
		ints := newOn(t, st, "p-int", Options[int, int64]{TTL: 15 * time.Minute})
		profiles := newOn(t, st, "p-json", Options[string, profile]{TTL: 15 * time.Minute})
		strs := map[string]string{"plain": "a b", "empty": "", "a:b é": "José 😀"}
		numbers := map[int]int64{-7: 1<<53 + 1, 0: 0}

		python(t, host, port, "write")
		if m, err := texts.GetMany(ctx, []string{"plain", "empty", "a:b é"}); err != nil || !reflect.DeepEqual(m, strs) {
			t.Errorf("str: %q, %v", m, err)
		}
		if m, err := ints.GetMany(ctx, []int{-7, 0}); err != nil || !reflect.DeepEqual(m, numbers) {
			t.Errorf("int: %v, %v", m, err)
		}
		if v, err := profiles.Get(ctx, "k"); err != nil || !reflect.DeepEqual(v, profileValue) {
			t.Errorf("json: %v, %v", v, err)
		}
		m := redistest.Do(t, admin, "GET", "p-json:k")
		if raw, _ := m.ToString(); raw != profileDumps {
			t.Errorf("this Python's json.dumps writes %s, the literal tests hold %s", raw, profileDumps)
		}
		if n, err := texts.Count(ctx); n != len(strs) || err != nil {
			t.Errorf("%d of Python's keys, %v", n, err)
		}
		if n, err := ints.Count(ctx); n != len(numbers) || err != nil {
			t.Errorf("%d of Python's int keys, %v", n, err)
		}

		redistest.Do(t, admin, "FLUSHALL")
		for _, err := range []error{texts.SetMany(ctx, strs), ints.SetMany(ctx, numbers), profiles.Set(ctx, "k", profileValue)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		python(t, host, port, "read")
	})
}
