//go:build unix

package redisserver

import (
	"os"
	"syscall"
)

// ofItsOwn gives the server a process group of its own: a terminal's Ctrl-C
// goes to a whole group, and the server must outlive its users' last commands.
func ofItsOwn() *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setpgid: true}
	dieWithParent(a)
	return a
}

func terminate(p *os.Process) {
	p.Signal(syscall.SIGCONT) // a stopped process takes no SIGTERM
	p.Signal(syscall.SIGTERM)
}
