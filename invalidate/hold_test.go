package invalidate

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/rueidis"
)

// A mutedEar takes every session and every probe, and hears no answer.
type mutedEar struct {
	ear
	probes chan string
}

func (mutedEar) open(uint64) error             { return nil }
func (mutedEar) live()                         {}
func (mutedEar) at() map[string]rueidis.Client { return nil }
func (e mutedEar) probe(_ uint64, token string) error {
	e.probes <- token
	return nil
}

// A session begins with the first answer to a probe; what else may come while it is
// waited for ends it.
func TestH6_SessionBeginsWithAnAnswerOrNotAtAll(t *testing.T) {
	const timeout = 3 * time.Second
	broken := errors.New("broken")
	for name, test := range map[string]struct {
		comes func(s *Stream, id uint64, token string)
		after time.Duration // it has begun, or ended
		want  string        // "": it has begun
	}{
		"an answer": {func(s *Stream, _ uint64, token string) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.answered(token)
		}, 0, ""},
		"the end of its context":    {func(s *Stream, _ uint64, _ string) { s.cancel() }, 0, context.Canceled.Error()},
		"the end of its connection": {func(s *Stream, id uint64, _ string) { s.fail(id, broken) }, 0, broken.Error()},
		"the end of one before":     {func(s *Stream, id uint64, _ string) { s.fail(id-1, broken) }, timeout, "silent"},
		"another answer": {func(s *Stream, _ uint64, token string) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.answered(token + "?")
		}, timeout, "silent"},
		"nothing": {func(*Stream, uint64, string) {}, timeout, "silent"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStream(Config{Timeout: timeout, probeEvery: time.Hour})
				s.ctx, s.cancel = context.WithCancel(t.Context())
				defer s.cancel()
				ear := mutedEar{probes: make(chan string, 1)}
				s.ear = ear
				began, over := make(chan error, 2), make(chan error, 1)
				go func() { over <- s.hold(func(err error) { began <- err }) }()
				synctest.Wait() // it waits for an answer
				at := time.Now()
				if len(began) > 0 || s.State().Status != Cut {
					t.Fatal("it began before its probe was answered")
				}
				test.comes(s, s.session, <-ear.probes)
				err := <-began
				if took := time.Since(at); took != test.after {
					t.Errorf("it took %v, want %v", took, test.after)
				}
				if test.want == "" {
					if live := s.State().Status == Live; err != nil || !live {
						t.Errorf("live %t, %v", live, err)
					}
					s.cancel()
					if err := <-over; err != nil {
						t.Errorf("it ended with %v", err)
					}
				} else if end := <-over; err == nil || !strings.Contains(err.Error(), test.want) || end != err || s.State().Status == Live {
					t.Errorf("it began with %v and ended with %v, want %q", err, end, test.want)
				}
				if len(began) > 0 {
					t.Error("it was told twice how the session began")
				}
			})
		})
	}
}
