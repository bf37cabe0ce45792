// Custom-codec keeps points on a map in a form of their own: 16 bytes each, half
// of what JSON takes, and refused where they are not whole.
//
//	go run ./examples/custom-codec
package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/codec"
	"github.com/flipcache/flipcache/examples/internal/start"
	"github.com/flipcache/flipcache/hybrid"
	"github.com/flipcache/flipcache/invalidate"
)

// Point is a place on Earth, in degrees.
type Point struct{ Lat, Lon float64 }

func main() { start.Main(run) }

// points appends a Point as two floats, and takes back no more and no less. What
// it returns as an error, the cache reports as hybrid.ErrDecode with the key.
var points = codec.Func(
	func(dst []byte, p Point) ([]byte, error) {
		if math.Abs(p.Lat) > 90 || math.Abs(p.Lon) > 180 {
			return nil, fmt.Errorf("%v is not on Earth", p)
		}
		dst = binary.BigEndian.AppendUint64(dst, math.Float64bits(p.Lat))
		return binary.BigEndian.AppendUint64(dst, math.Float64bits(p.Lon)), nil
	},
	func(data []byte) (Point, error) {
		if len(data) != 16 {
			return Point{}, fmt.Errorf("%d bytes, not 16", len(data))
		}
		return Point{
			Lat: math.Float64frombits(binary.BigEndian.Uint64(data)),
			Lon: math.Float64frombits(binary.BigEndian.Uint64(data[8:])),
		}, nil
	},
)

func run(ctx context.Context, client rueidis.ClientOption, out io.Writer) error {
	store, err := hybrid.Open(ctx, hybrid.StoreOptions{Client: client, Invalidation: invalidate.PubSub})
	if err != nil {
		return err
	}
	defer store.Close()
	places, err := hybrid.New(store, "places", hybrid.Options[string, Point]{Codec: points, TTL: time.Hour})
	if err != nil {
		return err
	}

	if err := places.Set(ctx, "Greenwich", Point{51.4779, -0.0015}); err != nil {
		return err
	}
	greenwich, err := places.Get(ctx, "Greenwich")
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "Greenwich: %+v\n", greenwich)

	// A value that has no form is refused before anything is sent.
	err = places.Set(ctx, "nowhere", Point{Lat: 200})
	fmt.Fprintf(out, "nowhere:   encode error %t: %v\n", errors.Is(err, hybrid.ErrEncode), err)

	// What another program left there is an error that names the key.
	foreign, err := rueidis.NewClient(client)
	if err != nil {
		return err
	}
	defer foreign.Close()
	if err := foreign.Do(ctx, foreign.B().Set().Key("places:Atlantis").Value("sunk").Build()).Error(); err != nil {
		return err
	}
	_, err = places.Get(ctx, "Atlantis")
	fmt.Fprintf(out, "Atlantis:  decode error %t: %v\n", errors.Is(err, hybrid.ErrDecode), err)
	return nil
}
