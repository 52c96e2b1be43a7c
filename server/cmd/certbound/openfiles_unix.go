//go:build unix

package main

import "syscall"

// openFiles returns how many files, and so connections, the process may have open. Go has
// raised the soft limit to the hard one. Zero: it cannot be said.
func openFiles() uint64 {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	return uint64(limit.Cur)
}
