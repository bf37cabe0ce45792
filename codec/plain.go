package codec

import (
	"errors"
	"math"
	"reflect"
	"strconv"
)

// String keeps a string as its own bytes, whatever they are.
func String[V ~string]() Codec[V] { return stringCodec[V]{} }

type stringCodec[V ~string] struct{}

func (stringCodec[V]) Append(dst []byte, v V) ([]byte, error) { return append(dst, v...), nil }
func (stringCodec[V]) Decode(data []byte) (V, error)          { return V(data), nil }

// EncodeText and DecodeText are Append and Decode without a copy. Package hybrid
// looks for them.
func (stringCodec[V]) EncodeText(v V) string    { return string(v) }
func (stringCodec[V]) DecodeText(data string) V { return V(data) }

// Bytes keeps a byte slice as it is. nil is stored as no bytes, and read back
// as an empty slice that is not nil. Decode returns a copy.
func Bytes[V ~[]byte]() Codec[V] { return bytesCodec[V]{} }

type bytesCodec[V ~[]byte] struct{}

func (bytesCodec[V]) Append(dst []byte, v V) ([]byte, error) { return append(dst, v...), nil }

func (bytesCodec[V]) Decode(data []byte) (V, error) {
	v := make(V, len(data))
	copy(v, data)
	return v, nil
}

// Integer is what Int encodes.
type Integer interface {
	~int | ~int8 | ~int16 | ~int32 | ~int64 | ~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64 | ~uintptr
}

// Int keeps an integer as decimal digits, as INCR does, and Python's str. Other
// spellings (a plus sign, leading zeros, spaces, "-0", "1.0") are refused, as
// INCR refuses them, and so is what V cannot hold.
func Int[V Integer]() Codec[V] {
	t := reflect.TypeFor[V]()
	c := intCodec[V]{max: math.MaxUint64 >> (64 - t.Bits())}
	if t.Kind() >= reflect.Int && t.Kind() <= reflect.Int64 {
		c.max >>= 1
		c.min = c.max + 1
	}
	return c
}

// intCodec holds the bounds of V by their absolute values.
type intCodec[V Integer] struct{ max, min uint64 }

func (intCodec[V]) Append(dst []byte, v V) ([]byte, error) {
	if v < 0 {
		return strconv.AppendInt(dst, int64(v), 10), nil
	}
	return strconv.AppendUint(dst, uint64(v), 10), nil
}

var (
	errNoInteger = errors.New("not an integer in decimal digits")
	errRange     = errors.New("out of range")
)

func (c intCodec[V]) Decode(data []byte) (V, error) {
	digits, limit := data, c.max
	negative := len(data) > 0 && data[0] == '-'
	if negative {
		digits, limit = data[1:], c.min
	}
	if len(digits) == 0 || digits[0] == '0' && (negative || len(digits) > 1) {
		return 0, decodeError[V](data, errNoInteger)
	}
	var n uint64
	for _, d := range digits {
		if d < '0' || d > '9' {
			return 0, decodeError[V](data, errNoInteger)
		}
		v := uint64(d - '0')
		if v > limit || n > (limit-v)/10 {
			return 0, decodeError[V](data, errRange)
		}
		n = n*10 + v
	}
	if negative {
		return V(-n), nil // the bits of a two's complement
	}
	return V(n), nil
}
