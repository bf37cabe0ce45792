package invalidate

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
)

// A message is binary, and its first byte is the version of what follows:
//
//	version  1 byte   1
//	kind     1 byte   1: keys, 2: the whole cache, 3: a question, 4: an answer
//	sender   8 bytes  of the process that wrote, drawn at random by it
//	nonce    8 bytes  big endian; the i-th key's nonce is nonce + i; kinds 3 and 4:
//	                  the question's number
//	keys     kind 1 only, to the end: uvarint length in its shortest form,
//	         bytes; at least one
//
// docs/protocol.md describes it for other languages.
const (
	wireVersion = 1
	kindKeys    = 1
	kindAll     = 2
	kindAsk     = 3
	kindAnswer  = 4
	headerLen   = 18
)

// MaxMessage bounds a message, in bytes. A write of more keys than fit sends
// several; a single key that does not fit is announced as "the whole cache".
const MaxMessage = 64 << 10

// errMalformed is why a message was rejected.
var errMalformed = errors.New("malformed message")

// A Sender tells the messages of one process from those of others.
type Sender [8]byte

// String returns the sender in hex, as it stands in channels and lists.
func (s Sender) String() string { return hex.EncodeToString(s[:]) }

func appendHeader(dst []byte, kind byte, from Sender, nonce uint64) []byte {
	dst = append(dst, wireVersion, kind)
	dst = append(dst, from[:]...)
	return binary.BigEndian.AppendUint64(dst, nonce)
}

// AppendKeys appends to dst the message that says that keys were changed, and
// returns it with the number of keys that it holds: as many as fit, none if
// the first alone is too long; then AppendAll has to be used.
func AppendKeys(dst []byte, from Sender, nonce uint64, keys []string) ([]byte, int) {
	start := len(dst)
	dst = appendHeader(dst, kindKeys, from, nonce)
	for i, k := range keys {
		if len(dst)-start+binary.MaxVarintLen32+len(k) > MaxMessage {
			return dst, i
		}
		dst = binary.AppendUvarint(dst, uint64(len(k)))
		dst = append(dst, k...)
	}
	return dst, len(keys)
}

// AppendAll appends to dst the message that says that any key of the cache may
// have changed.
func AppendAll(dst []byte, from Sender) []byte {
	return appendHeader(dst, kindAll, from, 0)
}

type message struct {
	kind  byte
	from  Sender
	nonce uint64
	keys  string // of kindKeys: as on the wire, checked by parse
}

// parse reads a message from the channel. It checks the whole of it, so that a
// malformed one has no effect in parts.
func parse(s string) (message, error) {
	if len(s) == 0 || s[0] != wireVersion {
		return message{}, fmt.Errorf("%w: unknown version", errMalformed)
	}
	if len(s) < headerLen {
		return message{}, fmt.Errorf("%w: %d bytes", errMalformed, len(s))
	}
	m := message{kind: s[1]}
	copy(m.from[:], s[2:10])
	for _, b := range []byte(s[10:18]) {
		m.nonce = m.nonce<<8 | uint64(b)
	}
	m.keys = s[headerLen:]
	switch m.kind {
	case kindAll, kindAsk, kindAnswer:
		if m.keys != "" {
			return message{}, fmt.Errorf("%w: %d bytes after it", errMalformed, len(m.keys))
		}
		return m, nil
	case kindKeys:
		if len(s) > MaxMessage || m.keys == "" {
			return message{}, fmt.Errorf("%w: %d bytes of keys", errMalformed, len(m.keys))
		}
		for rest := m.keys; rest != ""; {
			var ok bool
			if _, rest, ok = cutKey(rest); !ok {
				return message{}, fmt.Errorf("%w: a key is cut short", errMalformed)
			}
		}
		return m, nil
	}
	return message{}, fmt.Errorf("%w: unknown kind %d", errMalformed, s[1])
}

func cutKey(s string) (key, rest string, ok bool) {
	var n uint64
	for i := 0; i < len(s) && i < binary.MaxVarintLen32; i++ {
		n |= uint64(s[i]&0x7f) << (7 * i)
		if s[i] < 0x80 {
			if i > 0 && s[i] == 0 { // a longer form of a short length
				return "", "", false
			}
			if s = s[i+1:]; n > uint64(len(s)) {
				return "", "", false
			}
			return s[:n], s[n:], true
		}
	}
	return "", "", false
}
