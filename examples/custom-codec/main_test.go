package main

import (
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/flipcache/flipcache/internal/redisserver"
	"github.com/flipcache/flipcache/internal/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestPointsComeBackAndTheRestIsAnError(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		var out strings.Builder
		if err := run(t.Context(), s.ClientOption(), &out); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"{Lat:51.4779 Lon:-0.0015}\n", "encode error true", "decode error true", "places:Atlantis", "4 bytes, not 16"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("no %q in\n%s", want, out.String())
			}
		}
	})
}
