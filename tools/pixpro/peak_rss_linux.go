package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"
)

// peakRSS is the most memory that this process has had resident, in bytes. It
// is not getrusage's: that one also knows of the process that started this one.
func peakRSS() (int64, error) {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), "VmHWM:"); ok {
			var kilobytes int64
			if _, err := fmt.Sscan(value, &kilobytes); err != nil {
				return 0, fmt.Errorf("%s: %q: %w", f.Name(), lines.Text(), err)
			}
			return kilobytes << 10, nil
		}
	}
	return 0, fmt.Errorf("%s has no peak of memory: %w", f.Name(), lines.Err())
}
