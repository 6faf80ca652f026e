package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// ticks is the unit of /proc/PID/stat's times, the same on all systems that Go
// runs on.
const ticks = 100

// read asks the system about a process.
func (p *process) read(pid int) error {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		value, _, _ = strings.Cut(strings.TrimSpace(value), " ")
		switch name {
		case "VmRSS":
			kilobytes, err := strconv.ParseInt(value, 10, 64)
			if err != nil {
				return err
			}
			p.Resident = kilobytes << 10
		case "Threads":
			if p.Threads, err = strconv.Atoi(value); err != nil {
				return err
			}
		}
	}
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return err
	}
	p.Descriptors = len(files)
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return err
	}
	// Behind the name, which can hold anything, fields 14 and 15 of proc(5).
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 13 {
		return fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	for _, field := range fields[11:13] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return err
		}
		p.CPU += time.Duration(n) * time.Second / ticks
	}
	return nil
}
