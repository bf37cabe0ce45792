package main

import (
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/flipcache/flipcache/internal/redisserver"
	"github.com/flipcache/flipcache/internal/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestNoHitIsLost(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		var out strings.Builder
		if err := run(t.Context(), s.ClientOption(), &out); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"{User:ada Hits:0}\n", "{User:ada Hits:200}\n", "lives for:        15m0s\n"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("no %q in\n%s", want, out.String())
			}
		}
	})
}
