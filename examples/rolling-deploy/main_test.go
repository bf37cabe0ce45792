package main

import (
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/flipcache/flipcache/internal/redisserver"
	"github.com/flipcache/flipcache/internal/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestNeighboursUnderstandEachOther(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		var out strings.Builder
		if err := run(t.Context(), s.ClientOption(), &out); err != nil {
			t.Fatal(err)
		}
		const want = `release 1 wrote, release 2 reads: {Name:Ada Lovelace}
release 1 wrote, release 3 reads: {First:Ada Last:Lovelace}
release 3 wrote, release 2 reads: {Name:Alan Turing}
release 3 wrote, release 1 reads: unknown version true
and loads:                        {Name:Alan Turing}
`
		if out.String() != want {
			t.Errorf("got\n%s\nwant\n%s", out.String(), want)
		}
	})
}
