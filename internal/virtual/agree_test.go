//go:build unix

package virtual

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/flipcache/flipcache/internal/redistest"
)

// A speaker is one connection, as bytes. It is read at once, always.
type speaker struct {
	t *testing.T
	net.Conn
	lines chan string
}

func speak(t *testing.T, c net.Conn, err error) *speaker {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	s := &speaker{t, c, make(chan string, 1000)}
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(s.lines)
		for r := bufio.NewScanner(c); r.Scan(); {
			s.lines <- r.Text()
		}
	})
	t.Cleanup(func() {
		c.Close()
		wg.Wait()
	})
	s.say("HELLO", "3")
	s.hear()
	return s
}

func (s *speaker) say(args ...string) {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
	}
	if _, err := s.Write([]byte(b.String())); err != nil {
		s.t.Fatal(err)
	}
}

// hear returns all that is said up to now.
func (s *speaker) hear() (all []string) {
	const last = "that is all"
	s.say("ECHO", last)
	for line := range s.lines {
		if line == last {
			return all[:len(all)-1] // without its length
		}
		all = append(all, line)
	}
	s.t.Fatal("the connection is closed")
	return nil
}

var number = regexp.MustCompile(`^:\d+$`)

// TestRedisSpeaksAsTheRealOne has two connections, both tracked, one of which subscribes,
// do the same on the simulated Redis and on a real one, and compares all they are told,
// in its order.
func TestRedisSpeaksAsTheRealOne(t *testing.T) {
	addr := redistest.Real(t).Addr
	sim := newRedis(t)
	t.Cleanup(sim.Close)
	open := func() [2]*speaker {
		real, err := net.Dial("tcp", addr)
		ours, err2 := sim.Dial()
		return [2]*speaker{speak(t, real, err), speak(t, ours, err2)}
	}
	pairs := [][2]*speaker{open(), open()}
	const cas = `if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('SET', KEYS[1], ARGV[2]) redis.call('PUBLISH', 'news', KEYS[1]) return 1 end return 0`
	r := rand.New(rand.NewPCG(1, 1))
	key := func() string { return "k" + strconv.Itoa(r.IntN(3)) }
	value := func() string { return strconv.Itoa(r.IntN(3)) }
	for i := range 3000 {
		var step [][]string
		switch what := r.IntN(12); {
		case i < 2:
			step = [][]string{{"CLIENT", "TRACKING", "ON", "OPTOUT"}}
		case i == 2:
			step = [][]string{{"SUBSCRIBE", "news", "other"}}
		case i == 1500:
			step = [][]string{{"UNSUBSCRIBE", "other"}}
		case what < 3:
			step = [][]string{{"GET", key()}, {"PTTL", key()}}
		case what == 3:
			step = [][]string{{"MGET", key(), key()}, {"EXISTS", key(), key()}}
		case what < 6:
			step = [][]string{{"SET", key(), value()}}
		case what == 6:
			k := key()
			step = [][]string{{"EXISTS", k}, {"SET", k, value()}, {"GET", k}, {"PTTL", k}}
		case what == 7:
			step = [][]string{{"UNLINK", key(), key()}}
		case what == 11:
			step = [][]string{{"INCRBY", key(), value()}}
		case what == 8 && i%2 == 1: // who subscribes does not publish: that is another order since Redis 7.2
			step = [][]string{{"EVAL", cas, "1", key(), value(), value()}}
		case what == 9 && i%2 == 1:
			step = [][]string{{"PUBLISH", "news", value()}, {"PUBLISH", "nobody", value()}}
		case what == 10 && i%2 == 1: // before 7.2 it would garble EXEC's reply
			step = [][]string{{"MULTI"}, {"SET", key(), value()}, {"UNLINK", key()}, {"PUBLISH", "news", value()}, {"EXEC"}}
		}
		speaks := pairs[i%2]
		var told [2]string
		for which := range told {
			for _, args := range step {
				speaks[which].say(args...)
			}
			told[which] = strings.Join(speaks[which].hear(), " ") + "\nthe other: " + strings.Join(pairs[1-i%2][which].hear(), " ")
		}
		if len(step) > 1 && step[0][0] == "MULTI" { // miniredis does not count who hears what EXEC publishes
			for which := range told {
				words := strings.Fields(told[which])
				for n := range words {
					words[n] = number.ReplaceAllString(words[n], ":n")
				}
				told[which] = strings.Join(words, " ")
			}
		}
		if told[0] != told[1] {
			t.Fatalf("step %d, %q:\nRedis: %s\nsimulated: %s", i, step, told[0], told[1])
		}
	}
}
