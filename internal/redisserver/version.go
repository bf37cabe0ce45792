package redisserver

import (
	"os/exec"
	"regexp"
	"strconv"
	"sync"
)

var versionText = regexp.MustCompile(`v=(\d+)`)

// Major returns the major version of the server that Start runs, of Redis or
// Valkey; 0 where there is none.
var Major = sync.OnceValue(func() int {
	bin, err := binary()
	if err != nil {
		return 0
	}
	out, err := exec.Command(bin, "--version").Output()
	if err != nil {
		return 0
	}
	m := versionText.FindSubmatch(out)
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(string(m[1]))
	return n
})

// AllowDebug are the arguments with which a server takes DEBUG.
func AllowDebug() []string {
	if Major() < 7 { // which takes it always
		return nil
	}
	return []string{"--enable-debug-command", "local"}
}
