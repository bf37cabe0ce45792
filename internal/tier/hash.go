package tier

import (
	"encoding/binary"
	"hash/maphash"
	"math/bits"
	"math/rand/v2"
	"reflect"
	"unsafe"
)

// A hasher turns keys into 64 well mixed bits, differently in each tier. For
// integers and strings of up to 32 bytes it is wyhash (Wang Yi; Go's own maps use
// it where a processor has no AES), which the compiler can put into the code of a
// hit; a call of hash/maphash costs as much as all else there.
//
// What K is underneath is found once, and said by kind: the unsafe pointers below
// are to what it says.
type hasher[K comparable] struct {
	secret
	kind keyKind
	seed maphash.Seed
}

// secret is what makes wyhash differ from tier to tier. Its methods are in no
// generic type, so that they are small enough to be inlined.
type secret [2]uint64

type keyKind uint8

const (
	otherKey keyKind = iota
	stringKey
	word32Key
	word64Key
	collidingKey // for tests: all hashes are one
)

func newHasher[K comparable]() hasher[K] {
	h := hasher[K]{secret: secret{rand.Uint64(), rand.Uint64()}, seed: maphash.MakeSeed()}
	switch t := reflect.TypeFor[K](); t.Kind() {
	case reflect.String:
		h.kind = stringKey
	case reflect.Int, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		h.kind = word32Key
		if t.Size() == 8 {
			h.kind = word64Key
		}
	}
	return h
}

func (h *hasher[K]) hash(key K) uint64 {
	switch h.kind {
	case stringKey:
		s := text(&key)
		n := len(s)
		switch {
		case n > 32:
			return maphash.String(h.seed, s)
		case n > 16:
			return h.mix(n, word(s, n-16), word(s, n-8)^mix(word(s, 0)^h.secret[1], word(s, 8)^h.secret[0]))
		case n >= 8:
			return h.short(s)
		case n >= 4:
			p := unsafe.Slice(unsafe.StringData(s), n)
			return h.mix(n, uint64(binary.LittleEndian.Uint32(p)), uint64(binary.LittleEndian.Uint32(p[n-4:])))
		case n > 0:
			return h.mix(n, uint64(s[0])<<16|uint64(s[n/2])<<8|uint64(s[n-1]), 0)
		}
		return h.mix(0, 0, 0)
	case word64Key:
		return h.mix(8, *(*uint64)(unsafe.Pointer(&key)), 0)
	case word32Key:
		return h.mix(8, uint64(*(*uint32)(unsafe.Pointer(&key))), 0)
	}
	if h.kind == collidingKey {
		return h.secret[0]
	}
	return maphash.Comparable(h.seed, key)
}

// short is hash of a string of 8 to 16 bytes.
func (k *secret) short(s string) uint64 {
	return k.mix(len(s), word(s, 0), word(s, len(s)-8))
}

// sameShort is s == t, of two strings of 8 to 16 bytes, without a call.
func sameShort(s, t string) bool {
	n := len(s)
	return n == len(t) && word(s, 0) == word(t, 0) && word(s, n-8) == word(t, n-8)
}

// isShort says whether s is of 8 to 16 bytes.
func isShort(s string) bool { return uint(len(s)-8) <= 8 }

// mix multiplies twice, as wyhash does at its end: of one product the upper bits step
// evenly through what they can be while a key counts up, and with some secrets through
// few of it.
func (k *secret) mix(n int, a, b uint64) uint64 {
	hi, lo := bits.Mul64(a^k[0], b^k[1])
	hi, lo = bits.Mul64(lo^uint64(n), hi^k[1])
	return hi ^ lo
}

func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// text is key, which is a string underneath.
func text[K comparable](key *K) string { return *(*string)(unsafe.Pointer(key)) }

// word is the 8 bytes of s that begin at i.
func word(s string, i int) uint64 {
	return binary.LittleEndian.Uint64((*[8]byte)(unsafe.Add(unsafe.Pointer(unsafe.StringData(s)), i))[:])
}
