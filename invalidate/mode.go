package invalidate

import (
	"fmt"
	"strings"
)

// Mode says how a process learns of writes in others. The zero value is Off.
type Mode uint8

const (
	// Off leaves local entries as they are until their local life ends: a
	// local read may return any value that Redis held within that time.
	Off Mode = iota
	// PubSub announces each write on a channel, in the write's own round trip.
	// It hears what this library writes, nothing else. Redis 6.0 or later.
	PubSub
	// Tracking has Redis itself tell of each change of a key that this process
	// holds, whoever made it, by RESP3 client tracking. Redis 6.0 or later. It
	// does not hear SWAPDB, and hears of an expiry when the server gets to it;
	// local entries end in time all the same.
	Tracking
)

// String returns the mode's name in lower case, which ParseMode reads.
func (m Mode) String() string {
	switch m {
	case Off:
		return "off"
	case PubSub:
		return "pubsub"
	case Tracking:
		return "tracking"
	}
	return fmt.Sprintf("mode(%d)", uint8(m))
}

// ParseMode returns the mode with the given name: off, pubsub or tracking, in
// any case.
func ParseMode(name string) (Mode, error) {
	for m := Off; m <= Tracking; m++ {
		if strings.EqualFold(name, m.String()) {
			return m, nil
		}
	}
	return Off, fmt.Errorf("invalidate: unknown mode %q: use off, pubsub or tracking", name)
}
