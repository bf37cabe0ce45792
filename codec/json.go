package codec

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
)

// JSON keeps a value as encoding/json writes it, without a newline and without
// escapes for HTML. It reads what other programs write, Python's json.dumps for
// one; unknown fields are passed over, so that an older release reads what a
// newer one wrote.
//
// Numbers inside an any are decoded as json.Number, so that no digit is lost.
// null is a value for pointers, maps, slices and interfaces, and an error for
// all other types but those that decode it themselves.
func JSON[V any]() Codec[V] { return newJSON[V](false) }

// StrictJSON is JSON that refuses fields which V does not have: a reader then
// finds out rather than lose them at its next write.
func StrictJSON[V any]() Codec[V] { return newJSON[V](true) }

func newJSON[V any](strict bool) Codec[V] {
	t := reflect.TypeFor[V]()
	return jsonCodec[V]{
		strict:   strict,
		dynamic:  holds(t, func(t reflect.Type) bool { return t.Kind() == reflect.Interface }),
		nullable: nullable(t) || reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]()),
	}
}

type jsonCodec[V any] struct {
	strict   bool
	dynamic  bool // V holds interfaces, whose numbers must keep their digits
	nullable bool
}

func (c jsonCodec[V]) Append(dst []byte, v V) ([]byte, error) {
	w := bytes.NewBuffer(dst)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return dst, encodeError[V](err)
	}
	return bytes.TrimSuffix(w.Bytes(), []byte{'\n'}), nil
}

var (
	errNull     = errors.New("null is no value of this type")
	errTrailing = errors.New("there is more behind the value")
)

func (c jsonCodec[V]) Decode(data []byte) (V, error) {
	v, err := c.decode(data)
	if err != nil {
		var zero V
		return zero, decodeError[V](data, err)
	}
	return v, nil
}

func (c jsonCodec[V]) decode(data []byte) (v V, err error) {
	if !c.nullable && string(bytes.TrimSpace(data)) == "null" {
		return v, errNull
	}
	if !c.strict && !c.dynamic {
		return v, json.Unmarshal(data, &v)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if c.strict {
		dec.DisallowUnknownFields()
	}
	if err := dec.Decode(&v); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return v, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return v, errTrailing
	}
	return v, nil
}

func nullable(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Slice, reflect.Interface:
		return true
	}
	return false
}

// holds says whether t or a type inside it is such a one. It does not look into
// types that encode themselves, nor at fields that no encoding sees.
func holds(t reflect.Type, such func(reflect.Type) bool) bool {
	seen := make(map[reflect.Type]bool)
	var walk func(reflect.Type) bool
	walk = func(t reflect.Type) bool {
		if seen[t] {
			return false
		}
		seen[t] = true
		if such(t) {
			return true
		}
		if m := reflect.TypeFor[json.Marshaler](); t.Implements(m) || reflect.PointerTo(t).Implements(m) {
			return false
		}
		switch t.Kind() {
		case reflect.Map:
			return walk(t.Key()) || walk(t.Elem())
		case reflect.Pointer, reflect.Slice, reflect.Array:
			return walk(t.Elem())
		case reflect.Struct:
			for i := range t.NumField() {
				f := t.Field(i)
				if (f.IsExported() || f.Anonymous) && f.Tag.Get("json") != "-" && walk(f.Type) {
					return true
				}
			}
		}
		return false
	}
	return walk(t)
}
