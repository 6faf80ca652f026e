//go:build !unix

package shards

import "os"

// mapFile reads the file into memory where there is no memory map to be had.
func mapFile(path string) ([]byte, error) { return os.ReadFile(path) }

func unmapFile([]byte) error { return nil }

func forget([]byte, int, int) {}
