package codec

import (
	"bytes"
	"errors"
)

// Func is a codec of two functions of yours: encode appends v to dst, decode
// gets bytes that it may keep. Both must be safe for concurrent use; a panic in
// them is an error. It fails only if one of them is nil, at each use.
func Func[V any](encode func(dst []byte, v V) ([]byte, error), decode func(data []byte) (V, error)) Codec[V] {
	return funcCodec[V]{encode, decode}
}

type funcCodec[V any] struct {
	encode func([]byte, V) ([]byte, error)
	decode func([]byte) (V, error)
}

var errNilFunc = errors.New("the function is nil")

func (c funcCodec[V]) Append(dst []byte, v V) ([]byte, error) {
	out := dst
	err := guard(func() (err error) {
		if c.encode == nil {
			return errNilFunc
		}
		out, err = c.encode(dst, v)
		return err
	})
	if err != nil {
		return dst, encodeError[V](err)
	}
	return out, nil
}

func (c funcCodec[V]) Decode(data []byte) (V, error) {
	var v V
	err := guard(func() (err error) {
		if c.decode == nil {
			return errNilFunc
		}
		v, err = c.decode(bytes.Clone(data))
		return err
	})
	if err != nil {
		var zero V
		return zero, decodeError[V](data, err)
	}
	return v, nil
}
