//go:build !linux

package main

import "errors"

func (p *process) read(int) error { return errors.New("processes are sampled on Linux only") }
