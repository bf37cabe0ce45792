package hybrid

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/codec"
	"github.com/flipcache/flipcache/internal/flights"
	"github.com/flipcache/flipcache/invalidate"
)

// The errors of this package. Test for them by errors.Is; which method returns
// which stands in its comment.
var (
	// ErrNotFound: Redis has no such key, or the loader said so. It is returned
	// as it is, without an Error around it, since it is an answer.
	ErrNotFound = errors.New("flipcache: not found")

	// ErrClosed: the Store was closed.
	ErrClosed = errors.New("the store is closed")

	// ErrCut: Redis has not answered for a while, and was not asked. The text
	// holds the last cause. Nothing was done.
	ErrCut = errors.New("no answer from Redis for a while, and not asked")

	// ErrOption: an option, a name or an argument is out of its range. Nothing
	// was done; the text names the option and says what to do.
	ErrOption = errors.New("invalid option")

	// ErrDecode: the bytes in Redis are not of the codec's form: another
	// program or an older type wrote them. They are left as they are; Set and
	// Delete mend the key.
	ErrDecode = codec.ErrDecode

	// ErrEncode: the codec refused the value. Nothing was written.
	ErrEncode = codec.ErrEncode

	// ErrTooLarge: key or value is longer than Redis' limit of 512 MB. Nothing
	// was written.
	ErrTooLarge = errors.New("longer than Redis' limit of 512 MB")

	// ErrOutcomeUnknown: a write was sent and no answer came, because the
	// connection broke or the context ended. It may have happened, or happen
	// yet. No local tier keeps anything of it.
	ErrOutcomeUnknown = errors.New("the outcome of the write is unknown")

	// ErrUnconfirmed: a write of an Acked view was done, and it is not known that
	// every process has heard of it. The text, and invalidate.Unconfirmed by
	// errors.As, say which and why.
	ErrUnconfirmed = errors.New("not confirmed")

	// ErrPermission: Redis refused the user or its password, or the user may
	// not run the command, or not on this key or channel.
	ErrPermission = errors.New("not permitted")

	// ErrConflict: Update gave up, since others changed the key each time
	// between its reading and its writing. Nothing was written.
	ErrConflict = errors.New("the key was changed by others at each attempt")

	// ErrOverflow: the sum does not fit the value's type. Nothing was written.
	ErrOverflow = errors.New("the sum does not fit the type")

	// ErrUnsupported: the server is too old, or has no such feature.
	ErrUnsupported = errors.New("not supported")

	// ErrPanic: a loader, a codec or another function of the user's panicked;
	// the text holds the stack.
	ErrPanic = errors.New("panic in a user's function")
)

// Error is what all methods return but for ErrNotFound: the operation, the
// cache and the key, around the reason.
type Error struct {
	Op   string // the method, in lower case
	Name string // of the cache; empty where the Store is meant
	Key  string // the key without the cache's name; empty where no single one is meant
	Err  error
}

// Error returns one line such as
//
//	flipcache: get users:42: not permitted: NOPERM ...
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("flipcache: ")
	b.WriteString(e.Op)
	if e.Name != "" {
		fmt.Fprintf(&b, " %s", printable(e.Name))
		if e.Key != "" {
			fmt.Fprintf(&b, ":%s", printable(e.Key))
		}
	}
	b.WriteString(": ")
	b.WriteString(e.Err.Error())
	return b.String()
}

// Unwrap returns the reason.
func (e *Error) Unwrap() error { return e.Err }

// printable keeps a log line one line, and bounded.
func printable(s string) string {
	const limit = 128
	short := s
	if len(s) > limit {
		short = s[:limit] + "..."
	}
	for _, r := range short {
		if r < ' ' || r == 0xfffd || r == 0x7f {
			return fmt.Sprintf("%q", short)
		}
	}
	return short
}

func optionError(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrOption}, args...)...)
}

// redisError gives an error of rueidis or Redis one of the sentinels above,
// where one fits.
func redisError(err error) error {
	if err == nil {
		return nil
	}
	if re := (*rueidis.RedisError)(nil); errors.As(err, &re) {
		switch text := re.Error(); {
		case contains(text, "NOPERM", "NOAUTH", "WRONGPASS", "without any password configured",
			"executing the script can't"): // what 7.0 says of a script's command
			return fmt.Errorf("%w: %w", ErrPermission, err)
		case contains(text, "would overflow"):
			return fmt.Errorf("%w: %w", ErrOverflow, err)
		case contains(text, "not an integer"):
			return fmt.Errorf("%w: %w", ErrDecode, err)
		case contains(text, "invalid bulk length", "string exceeds maximum allowed size"):
			return fmt.Errorf("%w, or what this server allows: %w", ErrTooLarge, err)
		case contains(text, "WRONGTYPE"):
			return fmt.Errorf("%w: another program keeps something else than a string there: %w", ErrDecode, err)
		}
		return err
	}
	if errors.Is(err, rueidis.ErrClosing) || errors.Is(err, invalidate.ErrClosed) || errors.Is(err, flights.ErrClosed) {
		return ErrClosed
	}
	if errors.Is(err, invalidate.ErrNoTracking) {
		if contains(err.Error(), "NOPERM") {
			return fmt.Errorf("%w: %w", ErrPermission, err)
		}
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	if p := (*flights.PanicError)(nil); errors.As(err, &p) {
		return fmt.Errorf("%w: %w", ErrPanic, err)
	}
	return err
}

// writeError is redisError for a write: what Redis did not answer has an
// unknown outcome.
func writeError(err error) error {
	if err == nil {
		return nil
	}
	err = redisError(err)
	if re := (*rueidis.RedisError)(nil); errors.As(err, &re) || errors.Is(err, ErrCut) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
}

// reason is redisError for what hangs on the Store's context and timeout, not
// on the caller's: where they ended it, the text says so.
func (s *Store) reason(ctx context.Context, err error) error {
	err = redisError(err)
	switch {
	case ctx.Err() != nil:
	case errors.Is(err, context.Canceled) && s.ctx.Err() != nil:
		return ErrClosed
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no answer from Redis within Timeout (%v): %w", s.timeout, err)
	}
	return err
}

// ifClosed is err, and ErrClosed where it comes of Close, which ends what is under way,
// dials too.
func (s *Store) ifClosed(err error) error {
	if (errors.Is(err, context.Canceled) || errors.Is(err, net.ErrClosed)) && s.ctx.Err() != nil && !errors.Is(err, ErrClosed) {
		return fmt.Errorf("%w: %w", ErrClosed, err)
	}
	return err
}

func contains(text string, parts ...string) bool {
	for _, p := range parts {
		if strings.Contains(text, p) {
			return true
		}
	}
	return false
}

// errNotSent: the context had ended before.
var errNotSent = errors.New("nothing was sent")

// ended is ctx's error, before anything is done under it.
func ended(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", errNotSent, err)
	}
	return nil
}
