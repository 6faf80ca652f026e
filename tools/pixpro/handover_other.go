//go:build !unix

package main

import "fmt"

// replaceProcess is for Unix; elsewhere one starts the program oneself.
func replaceProcess(program string, _, _ []string) error {
	return fmt.Errorf("start %s instead of pixpro to use a card", program)
}
