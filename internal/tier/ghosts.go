package tier

import "math/bits"

// ghosts remembers of keys that left what the policy wants to know when they
// come back: 32 bits each, of which 15 are of the key's hash, 4 its frequency, 9
// the time and 4 marks. One that is taken for another does no more harm than a
// wrong guess.
//
// The methods need the shard's lock.
type ghosts []uint32

const (
	ghostsPerSlot = 2 // of the shard's capacity
	ghostWays     = 8 // a bucket, in which the oldest makes room
	ghostTag      = 1<<15 - 1
)

type ghost struct {
	freq uint8
	time uint16
	mark mark
}

func newGhosts(slots int) ghosts {
	return make(ghosts, max(1, ghostsPerSlot*slots/ghostWays)*ghostWays)
}

// bucket is chosen by the hash's highest bits, as the tag is of its lowest.
func (g ghosts) bucket(hash uint64) ghosts {
	i, _ := bits.Mul64(hash, uint64(len(g)/ghostWays))
	return g[i*ghostWays:][:ghostWays]
}

// put leaves a ghost in place of one of the same key, or in a free place, or of
// the oldest in its bucket.
func (g ghosts) put(hash uint64, x ghost) {
	b, tag := g.bucket(hash), uint32(hash)&ghostTag
	at, oldest := 0, -1
	for i, other := range b {
		if other == 0 || other>>17 == tag {
			at = i
			break
		}
		if age := age(x.time, uint16(other>>4)&timeMask); age > oldest {
			at, oldest = i, age
		}
	}
	b[at] = tag<<17 | uint32(x.freq)<<13 | uint32(x.time)<<4 | uint32(x.mark)
}

// take takes the ghost of a key out.
func (g ghosts) take(hash uint64) (x ghost, found bool) {
	if len(g) == 0 {
		return x, false
	}
	b, tag := g.bucket(hash), uint32(hash)&ghostTag
	for i, other := range b {
		if other != 0 && other>>17 == tag {
			b[i] = 0
			return ghost{freq: uint8(other >> 13 & 15), time: uint16(other>>4) & timeMask, mark: mark(other & 15)}, true
		}
	}
	return x, false
}
