//go:build unix

package fleet

import (
	"context"
	"encoding/json"
)

// A Crew is the workers of a run when they have worked.
type Crew struct{ all []*process }

// Ask tells all workers the same, and returns their answers.
func (c Crew) Ask(ctx context.Context, line string) ([]json.RawMessage, error) {
	return ask[json.RawMessage](ctx, c.all, line)
}
