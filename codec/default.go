package codec

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
)

// Default returns String for kinds of string, Int for kinds of integer, Bytes
// for kinds of byte slice, and JSON for all else that JSON keeps. For types that
// it does not keep (functions, channels, complex numbers, interfaces with
// methods, structs with fields of which none is exported, at any depth) it
// returns an error that names the type.
func Default[V any]() (Codec[V], error) {
	for _, c := range []any{
		String[string](), Bytes[[]byte](),
		Int[int](), Int[int8](), Int[int16](), Int[int32](), Int[int64](),
		Int[uint](), Int[uint8](), Int[uint16](), Int[uint32](), Int[uint64](), Int[uintptr](),
	} {
		if c, ok := c.(Codec[V]); ok {
			return c, nil
		}
	}
	t := reflect.TypeFor[V]()
	switch k := t.Kind(); {
	case k == reflect.String:
		return named[V, string]{String[string]()}, nil
	case k >= reflect.Int && k <= reflect.Int64:
		return narrow[V, int64](t, Int[int64]()), nil
	case k >= reflect.Uint && k <= reflect.Uintptr:
		return narrow[V, uint64](t, Int[uint64]()), nil
	case k == reflect.Slice && t.Elem().Kind() == reflect.Uint8:
		return named[V, []byte]{Bytes[[]byte]()}, nil
	}
	var why string
	holds(t, func(t reflect.Type) bool {
		why = unfit(t)
		return why != ""
	})
	if why != "" {
		return nil, fmt.Errorf("%v has no default codec: %s; set a codec", t, why)
	}
	return JSON[V](), nil
}

// named lends the codec of a predeclared type to a named one of its kind.
type named[V, P any] struct{ plain Codec[P] }

func (c named[V, P]) Append(dst []byte, v V) ([]byte, error) {
	return c.plain.Append(dst, reflect.ValueOf(v).Convert(reflect.TypeFor[P]()).Interface().(P))
}

func (c named[V, P]) Decode(data []byte) (V, error) {
	p, err := c.plain.Decode(data)
	if err != nil {
		var zero V
		return zero, err
	}
	return reflect.ValueOf(p).Convert(reflect.TypeFor[V]()).Interface().(V), nil
}

// narrow is named for integers: what fits P may be too wide for V.
func narrow[V any, P int64 | uint64](t reflect.Type, plain Codec[P]) Codec[V] {
	whole := named[V, P]{plain}
	return Func(whole.Append, func(data []byte) (V, error) {
		v, err := whole.Decode(data)
		if err != nil {
			return v, err
		}
		if back, _ := whole.Append(nil, v); string(back) != string(data) {
			return v, errRange
		}
		return v, nil
	})
}

// unfit says why encoding/json does not keep a value of t as it is; empty if it
// does.
func unfit(t reflect.Type) string {
	for _, own := range []reflect.Type{reflect.TypeFor[json.Marshaler](), reflect.TypeFor[encoding.TextMarshaler]()} {
		if t.Implements(own) || reflect.PointerTo(t).Implements(own) {
			return ""
		}
	}
	switch t.Kind() {
	case reflect.Func, reflect.Chan, reflect.Complex64, reflect.Complex128, reflect.UnsafePointer:
		return fmt.Sprintf("JSON knows no %v", t)
	case reflect.Interface:
		if t.NumMethod() > 0 {
			return fmt.Sprintf("JSON cannot decode into the interface %v", t)
		}
	case reflect.Struct:
		exported := 0
		for i := range t.NumField() {
			if f := t.Field(i); f.IsExported() || f.Anonymous {
				exported++
			}
		}
		if exported == 0 && t.NumField() > 0 {
			return fmt.Sprintf("no field of %v is exported", t)
		}
	}
	return ""
}
