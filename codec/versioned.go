package codec

import (
	"errors"
	"fmt"
)

// Versions describes the forms that a value has had, for Versioned.
type Versions[V any] struct {
	// Current is the byte that stands in front of what Codec writes. Bytes
	// below 0x20 never begin a text or JSON.
	Current byte
	Codec   Codec[V]

	// Older decodes, and migrates, what stands behind the bytes of versions
	// past and, ahead of a deploy, to come.
	Older map[byte]func(data []byte) (V, error)

	// Unversioned decodes, and migrates, values whose first byte is none of
	// the above: those from before there were versions. nil: they are an
	// ErrVersion.
	Unversioned func(data []byte) (V, error)
}

// Versioned is a codec whose values begin with a byte that tells their version,
// so that processes of two releases can share them while a deploy rolls. A
// version that is not known is an ErrVersion. It fails if v.Codec is nil, or
// v.Current is among the older ones.
func Versioned[V any](v Versions[V]) (Codec[V], error) {
	if v.Codec == nil {
		return nil, errors.New("codec: Versioned: Codec is nil: give it that of the current version")
	}
	if _, twice := v.Older[v.Current]; twice {
		return nil, fmt.Errorf("codec: Versioned: version %#x is current and among Older: choose another byte for the current one", v.Current)
	}
	for b, f := range v.Older {
		if f == nil {
			return nil, fmt.Errorf("codec: Versioned: Older[%#x] is nil: give it a function or leave it out", b)
		}
	}
	return versionedCodec[V]{v}, nil
}

type versionedCodec[V any] struct{ v Versions[V] }

func (c versionedCodec[V]) Append(dst []byte, v V) ([]byte, error) {
	out, err := c.v.Codec.Append(append(dst, c.v.Current), v)
	if err != nil {
		return dst, err
	}
	return out, nil
}

func (c versionedCodec[V]) Decode(data []byte) (V, error) {
	if len(data) > 0 && data[0] == c.v.Current {
		return c.v.Codec.Decode(data[1:])
	}
	decode, rest := c.v.Unversioned, data
	if len(data) > 0 {
		if f := c.v.Older[data[0]]; f != nil {
			decode, rest = f, data[1:]
		}
	}
	if decode == nil {
		var zero V
		return zero, decodeError[V](data, ErrVersion)
	}
	return Func(nil, decode).Decode(rest)
}
