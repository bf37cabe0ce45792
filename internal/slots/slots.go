// Package slots knows how Redis Cluster divides keys among its masters: by a
// number that each key has, its slot.
package slots

import (
	"strconv"
	"strings"
	"sync"
)

// Count is how many slots there are.
const Count = 16384

// Of returns the slot of key: that of its hash tag, if it has one, else of all of
// it.
func Of(key string) uint16 {
	if tag, ok := hashTag(key); ok {
		key = tag
	}
	return crc16(key) % Count
}

// hashTag returns what is between the first "{" and the next "}", if there is
// something.
func hashTag(key string) (string, bool) {
	if open := strings.IndexByte(key, '{'); open >= 0 {
		if n := strings.IndexByte(key[open+1:], '}'); n > 0 {
			return key[open+1 : open+1+n], true
		}
	}
	return "", false
}

// Beside returns a key that begins with prefix, contains key and lies in its slot.
// Neither is empty, and prefix has no "{". It is part of the protocol (docs/protocol.md):
//
//   - where key has a hash tag, prefix and key;
//   - else, where it has no "}", prefix and key in braces;
//   - else prefix, Tag of its slot in braces, a colon and key.
func Beside(prefix, key string) string {
	switch _, tagged := hashTag(key); {
	case tagged:
		return prefix + key
	case strings.IndexByte(key, '}') < 0:
		return prefix + "{" + key + "}"
	}
	return prefix + "{" + Tag(Of(key)) + "}:" + key
}

// Tag returns a hash tag of the slot: the least number, in decimal, that has it.
func Tag(slot uint16) string { return strconv.Itoa(int(tags()[slot])) }

var tags = sync.OnceValue(func() *[Count]uint32 {
	t := new([Count]uint32)
	missing := Count - 1 // 0 is a number itself: of slot 13907
	for n := uint32(1); missing > 0; n++ {
		if slot := Of(strconv.Itoa(int(n))); t[slot] == 0 && slot != zeroSlot {
			t[slot] = n
			missing--
		}
	}
	return t
})

// zeroSlot is the slot of "0".
const zeroSlot = 13907

// crc16 is CRC-16/XMODEM.
func crc16(s string) (crc uint16) {
	for i := range len(s) {
		crc = crc<<8 ^ table[byte(crc>>8)^s[i]]
	}
	return crc
}

var table = func() (t [256]uint16) {
	for i := range t {
		crc := uint16(i) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
		t[i] = crc
	}
	return t
}()
