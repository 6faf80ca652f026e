//go:build unix

package main

import (
	"fmt"
	"syscall"
)

// replaceProcess goes on as another program; it returns only if that fails.
func replaceProcess(program string, args, environment []string) error {
	return fmt.Errorf("start %s: %w", program, syscall.Exec(program, args, environment))
}
