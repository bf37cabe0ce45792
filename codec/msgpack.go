package codec

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"

	"github.com/vmihailenco/msgpack/v5"
)

// Msgpack keeps a value as MessagePack (msgpack.org), by the tags of
// github.com/vmihailenco/msgpack/v5. Unknown fields are passed over. nil is a
// value for pointers, maps, slices and interfaces, and an error for all other
// types but those that decode it themselves.
//
// A time is kept as an instant, to the nanosecond, without its zone. Inside an
// any, integers come back as int64 or uint64, floats as float64, and maps as
// map[string]any where all keys are strings, else as map[any]any.
func Msgpack[V any]() Codec[V] {
	t := reflect.TypeFor[V]()
	return msgpackCodec[V]{
		dynamic: holds(t, func(t reflect.Type) bool { return t.Kind() == reflect.Interface }),
		nullable: nullable(t) || reflect.PointerTo(t).Implements(reflect.TypeFor[msgpack.CustomDecoder]()) ||
			reflect.PointerTo(t).Implements(reflect.TypeFor[msgpack.Unmarshaler]()),
	}
}

type msgpackCodec[V any] struct {
	dynamic  bool // V holds interfaces, so that only a try tells whether a value can be read back
	nullable bool
}

func (c msgpackCodec[V]) Append(dst []byte, v V) (_ []byte, err error) {
	w := bytes.NewBuffer(dst)
	enc := msgpack.GetEncoder()
	defer msgpack.PutEncoder(enc)
	enc.Reset(w)
	enc.UseCompactInts(true)
	err = guard(func() error { return enc.Encode(v) })
	if err == nil && (c.dynamic || w.Len()-len(dst) > 0 && deep(w.Bytes()[len(dst):])) {
		_, err = c.decode(w.Bytes()[len(dst):])
	}
	if err != nil {
		return dst, encodeError[V](err)
	}
	return w.Bytes(), nil
}

func (c msgpackCodec[V]) Decode(data []byte) (V, error) {
	v, err := c.decode(data)
	if err != nil {
		var zero V
		return zero, decodeError[V](data, err)
	}
	return v, nil
}

func (c msgpackCodec[V]) decode(data []byte) (v V, err error) {
	if err := checkMsgpack(data); err != nil {
		return v, err
	}
	if !c.nullable && data[0] == 0xc0 {
		return v, errNull
	}
	dec := msgpack.GetDecoder()
	defer msgpack.PutDecoder(dec)
	r := bytes.NewReader(data)
	dec.Reset(r)
	dec.UseLooseInterfaceDecoding(true)
	dec.SetMapDecoder(decodeMap)
	if err := guard(func() error { return dec.Decode(&v) }); err != nil {
		return v, err
	}
	if r.Len() > 0 {
		return v, errTrailing
	}
	return v, nil
}

// guard turns a panic of the library, or of a method that it calls, into an
// error.
func guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return f()
}

func decodeMap(d *msgpack.Decoder) (any, error) {
	m, err := d.DecodeUntypedMap()
	if err != nil || m == nil {
		return nil, err
	}
	named := make(map[string]any, len(m))
	for k, v := range m {
		s, ok := k.(string)
		if !ok {
			return m, nil
		}
		named[s] = v
	}
	return named, nil
}

// maxDepth bounds how deep arrays and maps may be nested: the library decodes
// them by recursion, and a stack that overflows ends the process.
const maxDepth = 1000

var (
	errShort   = errors.New("cut short")
	errDepth   = fmt.Errorf("nested deeper than %d", maxDepth)
	errNoCode  = errors.New("0xc1 begins no value")
	errMapKeys = errors.New("more elements than bytes")
)

func deep(data []byte) bool { return errors.Is(checkMsgpack(data), errDepth) }

// checkMsgpack says whether data is one whole MessagePack value: no length says
// more than is there, so that the library, which allocates by what lengths say,
// cannot be made to allocate more than in proportion to data.
func checkMsgpack(data []byte) error {
	var open []uint64 // values that are still to come, for each array or map around
	rest := data
	take := func(n uint64) ([]byte, bool) {
		if n > uint64(len(rest)) {
			return nil, false
		}
		b := rest[:n]
		rest = rest[n:]
		return b, true
	}
	number := func(size uint64) (uint64, bool) {
		b, ok := take(size)
		if !ok {
			return 0, false
		}
		var full [8]byte
		copy(full[8-size:], b)
		return binary.BigEndian.Uint64(full[:]), true
	}
	for {
		code, ok := number(1)
		if !ok {
			return errShort
		}
		var skip, inside uint64
		ok = true
		sized := func(size, more uint64) {
			if skip, ok = number(size); ok {
				skip += more
			}
		}
		switch {
		case code <= 0x7f, code >= 0xe0, code == 0xc0, code == 0xc2, code == 0xc3:
		case code <= 0x8f:
			inside = 2 * (code & 0x0f)
		case code <= 0x9f:
			inside = code & 0x0f
		case code <= 0xbf:
			skip = code & 0x1f
		case code == 0xc1:
			return errNoCode
		case code <= 0xc6: // bin 8, 16, 32
			sized(1<<(code-0xc4), 0)
		case code <= 0xc9: // ext 8, 16, 32: and a byte of type
			sized(1<<(code-0xc7), 1)
		case code <= 0xcb: // float 32, 64
			skip = 4 << (code - 0xca)
		case code <= 0xcf: // uint 8 to 64
			skip = 1 << (code - 0xcc)
		case code <= 0xd3: // int 8 to 64
			skip = 1 << (code - 0xd0)
		case code <= 0xd8: // fixext 1 to 16, and a byte of type
			skip = 1<<(code-0xd4) + 1
		case code <= 0xdb: // str 8, 16, 32
			sized(1<<(code-0xd9), 0)
		case code <= 0xdd: // array 16, 32
			inside, ok = number(2 << (code - 0xdc))
		default: // map 16, 32
			inside, ok = number(2 << (code - 0xde))
			inside *= 2
		}
		if !ok {
			return errShort
		}
		if _, ok := take(skip); !ok {
			return errShort
		}
		if inside > uint64(len(rest)) { // each is a byte at least
			return errMapKeys
		}
		if inside > 0 {
			if len(open) == maxDepth {
				return errDepth
			}
			open = append(open, inside)
			continue
		}
		for len(open) > 0 {
			if open[len(open)-1]--; open[len(open)-1] > 0 {
				break
			}
			open = open[:len(open)-1]
		}
		if len(open) == 0 {
			if len(rest) > 0 {
				return errTrailing
			}
			return nil
		}
	}
}
