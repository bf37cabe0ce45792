//go:build unix

package client

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/flipcache/flipcache/internal/history"
	"github.com/flipcache/flipcache/invalidate"
)

// A Variant is what is run: a mode, with or without a lease, with or without
// acknowledged writes, on one server or a cluster.
type Variant struct {
	Mode    invalidate.Mode
	Lease   bool
	Acked   bool
	Cluster bool
}

// The suffixes of a variant's name.
const (
	leased  = "+lease"
	acked   = "+acked" // with a lease
	cluster = "+cluster"
)

func (v Variant) String() string {
	s := v.Mode.String()
	switch {
	case v.Acked:
		s += acked
	case v.Lease:
		s += leased
	}
	if v.Cluster {
		s += cluster
	}
	return s
}

// ParseVariant returns the variant whose String s is.
func ParseVariant(s string) (v Variant, err error) {
	name := s
	s, v.Cluster = strings.CutSuffix(strings.TrimSpace(s), cluster)
	s, v.Acked = strings.CutSuffix(s, acked)
	s, v.Lease = strings.CutSuffix(s, leased)
	v.Lease = v.Lease || v.Acked
	v.Mode, err = invalidate.ParseMode(s)
	switch {
	case err != nil:
	case v.Lease && v.Mode == invalidate.Off:
		err = errors.New("off has no lease")
	case v.Cluster && (v.Acked || v.Mode == invalidate.PubSub && v.Lease):
		err = errors.New("a cluster has acknowledged writes in no mode, and a lease in Tracking only")
	}
	if err != nil {
		err = fmt.Errorf("%q: %w", name, err)
	}
	return v, err
}

// Bounds of all variants.
const (
	Lease    = 500 * time.Millisecond // MaxStaleness
	LocalTTL = 400 * time.Millisecond // in Off, where it is the bound
)

// Rules are what v promises.
func (v Variant) Rules() history.Rules {
	r := history.Rules{NoStepBack: v.Mode != invalidate.Off, AtRest: v.Mode != invalidate.Off}
	switch {
	case v.Lease:
		r.Bound = Lease
	case v.Mode == invalidate.Off:
		r.Bound, r.Running = LocalTTL, true
	}
	return r
}
