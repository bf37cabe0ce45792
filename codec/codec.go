package codec

import (
	"errors"
	"fmt"
)

// Codec encodes and decodes values of one type. Both methods are safe for
// concurrent use.
type Codec[V any] interface {
	// Append appends v's encoding to dst and returns the longer slice. On an
	// error, which is an ErrEncode, what dst held is unchanged.
	Append(dst []byte, v V) ([]byte, error)

	// Decode returns the value that data encodes, all of it: what follows the
	// value is an error, as is all else that Append does not write, unless the
	// codec's comment says otherwise. Errors are ErrDecode. It never panics,
	// takes time and memory in proportion to data, and keeps no reference to
	// data.
	Decode(data []byte) (V, error)
}

var (
	// ErrEncode: the value cannot be encoded.
	ErrEncode = errors.New("cannot encode")

	// ErrDecode: the bytes are not of the codec's form.
	ErrDecode = errors.New("cannot decode")

	// ErrVersion: the bytes are of a version that is not known. It comes with
	// ErrDecode.
	ErrVersion = errors.New("unknown version")
)

func encodeError[V any](err error) error {
	return fmt.Errorf("%w %T: %w", ErrEncode, *new(V), err)
}

// decodeError names the type and the beginning of the bytes, never all of them.
func decodeError[V any](data []byte, err error) error {
	return fmt.Errorf("%w %s as %T: %w", ErrDecode, excerpt(data), *new(V), err)
}

func excerpt(data []byte) string {
	const limit = 32
	if len(data) <= limit {
		return fmt.Sprintf("%q", data)
	}
	return fmt.Sprintf("%q... (%d bytes)", data[:limit], len(data))
}
