// Package codec turns values into the bytes that stand in Redis, and back.
//
// A cache takes [Default] unless it is told otherwise: [String] for strings,
// [Int] for integers, [Bytes] for byte slices and [JSON] for the rest, so that
// redis-cli and the Python package FlipCache 1.3 read the same values. Choose
// [Msgpack] for values that are smaller and faster than JSON, [Func] for a form
// of your own, and [Versioned] around any of them when values of two releases
// stand side by side in Redis while a deploy rolls.
//
// # Caveats
//
// What a reader gets equals what was stored as far as the encoding can tell:
// neither JSON nor MessagePack keeps unexported fields, a time's monotonic
// reading, or the difference between an int and an int64 inside an any. An
// encoding that its own reader could not decode is refused by Append where that
// is known, never left for the reader to find.
package codec
