package redisserver

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func ask(t *testing.T, s *Server) {
	t.Helper()
	c, err := rueidis.NewClient(s.ClientOption())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx := context.Background()
	if err := c.Do(ctx, c.B().Set().Key("k").Value("v").Px(200*time.Millisecond).Build()).Error(); err != nil {
		t.Fatal(err)
	}
	for limit := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if err := c.Do(ctx, c.B().Get().Key("k").Build()).Error(); rueidis.IsRedisNil(err) {
			return // TTLs pass
		}
		if time.Now().After(limit) {
			t.Fatal("a TTL of 200 ms has not passed in 10 s")
		}
	}
}

func TestServersAnswerAndEnd(t *testing.T) {
	embedded, err := StartEmbedded()
	if err != nil {
		t.Fatal(err)
	}
	ask(t, embedded)
	embedded.Close()
	embedded.Close()

	real, err := Start()
	if errors.Is(err, ErrNotInstalled) {
		t.Skip("no redis-server on PATH")
	}
	if err != nil {
		t.Fatal(err)
	}
	ask(t, real)
	real.Close()
	if ping(real.Addr) {
		t.Error("the server answers after Close")
	}
}

func TestServerThatCannotStartSaysWhy(t *testing.T) {
	if !Available() {
		t.Skip("no redis-server on PATH")
	}
	if _, err := Start("--nonsense", "yes"); err == nil {
		t.Error("no error")
	}
}
