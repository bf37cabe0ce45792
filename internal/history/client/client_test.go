//go:build unix

package client

import (
	"errors"
	"testing"

	"github.com/flipcache/flipcache/hybrid"
	"github.com/flipcache/flipcache/internal/history"
)

func TestOutcomeIsWhatTheErrorSays(t *testing.T) {
	for err, want := range map[error]history.Outcome{
		nil: history.Done, hybrid.ErrNotFound: history.Done, hybrid.ErrUnconfirmed: history.Done,
		hybrid.ErrOutcomeUnknown: history.Unknown, hybrid.ErrCut: history.Refused, hybrid.ErrConflict: history.Refused,
	} {
		if got := outcome(err); got != want {
			t.Errorf("%v: got %v, want %v", err, got, want)
		}
	}
	joined := errors.Join(&hybrid.Error{Key: "7", Err: hybrid.ErrCut}, &hybrid.Error{Key: "9", Err: hybrid.ErrOutcomeUnknown})
	if failed := failedKeys(joined); len(failed) != 2 || outcome(failed["7"]) != history.Refused || outcome(failed["9"]) != history.Unknown {
		t.Errorf("got %v", failed)
	}
	if failed := failedKeys(errors.Join(&hybrid.Error{Op: "getmany", Err: hybrid.ErrCut})); failed != nil {
		t.Errorf("an error of no single key: got %v", failed)
	}
}
