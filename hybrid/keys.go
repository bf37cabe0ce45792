package hybrid

import (
	"reflect"
	"strconv"
	"strings"

	"github.com/flipcache/flipcache/internal/slots"
)

// Key is what a cache's keys may be. In Redis an integer stands in decimal.
type Key interface {
	~string | ~int | ~int32 | ~int64 | ~uint32 | ~uint64
}

// maxName bounds a cache's name, in bytes.
const maxName = 512

// reservedNames begins what this library keeps in Redis for itself beside the
// users' keys. No cache's name begins so.
const reservedNames = "flipcache#"

// reserved is the first part of the keys of load tokens.
const reserved = reservedNames + "load"

// keyText returns the key as it stands in Redis after "name:".
func keyText[K Key](key K) string {
	switch v := reflect.ValueOf(key); v.Kind() {
	case reflect.String:
		return v.String()
	case reflect.Uint32, reflect.Uint64:
		return strconv.FormatUint(v.Uint(), 10)
	default:
		return strconv.FormatInt(v.Int(), 10)
	}
}

// parseKey is keyText's inverse. It refuses what keyText does not write.
func parseKey[K Key](text string) (key K, ok bool) {
	switch v := reflect.ValueOf(&key).Elem(); v.Kind() {
	case reflect.String:
		v.SetString(text)
		return key, true
	case reflect.Uint32, reflect.Uint64:
		n, err := strconv.ParseUint(text, 10, v.Type().Bits())
		if err != nil || strconv.FormatUint(n, 10) != text {
			return key, false
		}
		v.SetUint(n)
		return key, true
	default:
		n, err := strconv.ParseInt(text, 10, v.Type().Bits())
		if err != nil || strconv.FormatInt(n, 10) != text {
			return key, false
		}
		v.SetInt(n)
		return key, true
	}
}

// tokenKey returns the key of the load token that stands beside redisKey, in
// the same slot of a cluster.
func tokenKey(redisKey string) string { return slots.Beside(reserved+":", redisKey) }

// isToken says whether k is the load token of a key that begins with prefix.
func isToken(k, prefix string) bool {
	of, ok := strings.CutPrefix(k, reserved+":")
	if !ok || strings.HasPrefix(of, prefix) || strings.HasPrefix(of, "{"+prefix) {
		return ok
	}
	tag, of, _ := strings.Cut(of, "}:")
	_, err := strconv.ParseUint(strings.TrimPrefix(tag, "{"), 10, 32)
	return err == nil && strings.HasPrefix(of, prefix)
}

// checkName says whether a cache may have this name beside those that the
// Store has.
func checkName(name string, taken map[string]bool) error {
	switch {
	case name == "":
		return optionError("name is empty: give each cache one of its own")
	case len(name) > maxName:
		return optionError("name has %d bytes: at most %d are allowed", len(name), maxName)
	case taken[name]:
		return optionError("name %q is taken on this Store: share the Cache that New returned", name)
	case strings.HasPrefix(name, reservedNames):
		return optionError("name %q is reserved: choose one that does not begin with %q", name, reservedNames)
	}
	for other := range taken {
		if overlap(name, other) {
			return optionError("name %q: the keys of %q would contain those of %q: choose names of which none begins with another and a colon",
				name, shorter(name, other), longer(name, other))
		}
	}
	return nil
}

// overlap says whether a key of the one cache could be a key of the other.
func overlap(a, b string) bool {
	return strings.HasPrefix(a+":", b+":") || strings.HasPrefix(b+":", a+":")
}

func shorter(a, b string) string {
	if len(a) < len(b) {
		return a
	}
	return b
}

func longer(a, b string) string {
	if len(a) < len(b) {
		return b
	}
	return a
}
