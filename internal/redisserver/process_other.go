//go:build !unix

package redisserver

import (
	"os"
	"syscall"
)

func ofItsOwn() *syscall.SysProcAttr { return nil }

func terminate(p *os.Process) { p.Kill() }
