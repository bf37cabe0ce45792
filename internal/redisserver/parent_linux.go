package redisserver

import "syscall"

// dieWithParent has the kernel end the server when the thread that started it
// is gone, so that a killed test leaves no orphan.
func dieWithParent(a *syscall.SysProcAttr) { a.Pdeathsig = syscall.SIGTERM }
