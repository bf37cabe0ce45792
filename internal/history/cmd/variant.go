//go:build unix

package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/flipcache/flipcache/internal/history"
	"github.com/flipcache/flipcache/invalidate"
)

// A variant is what is run: a mode, with or without a lease, with or without
// acknowledged writes, on one server or a cluster.
type variant struct {
	mode    invalidate.Mode
	lease   bool
	acked   bool
	cluster bool
}

// The suffixes of a variant's name.
const (
	leased  = "+lease"
	acked   = "+acked" // with a lease
	cluster = "+cluster"
)

func (v variant) String() string {
	s := v.mode.String()
	switch {
	case v.acked:
		s += acked
	case v.lease:
		s += leased
	}
	if v.cluster {
		s += cluster
	}
	return s
}

func parseVariant(s string) (v variant, err error) {
	name := s
	s, v.cluster = strings.CutSuffix(strings.TrimSpace(s), cluster)
	s, v.acked = strings.CutSuffix(s, acked)
	s, v.lease = strings.CutSuffix(s, leased)
	v.lease = v.lease || v.acked
	v.mode, err = invalidate.ParseMode(s)
	switch {
	case err != nil:
	case v.lease && v.mode == invalidate.Off:
		err = errors.New("off has no lease")
	case v.cluster && (v.acked || v.mode == invalidate.PubSub && v.lease):
		err = errors.New("a cluster has acknowledged writes in no mode, and a lease in Tracking only")
	}
	if err != nil {
		err = fmt.Errorf("%q: %w", name, err)
	}
	return v, err
}

// Bounds of all variants.
const (
	lease    = 500 * time.Millisecond // MaxStaleness
	localTTL = 400 * time.Millisecond // in Off, where it is the bound
)

// rules are what v promises.
func (v variant) rules() history.Rules {
	r := history.Rules{NoStepBack: v.mode != invalidate.Off, AtRest: v.mode != invalidate.Off}
	switch {
	case v.lease:
		r.Bound = lease
	case v.mode == invalidate.Off:
		r.Bound, r.Running = localTTL, true
	}
	return r
}
