//go:build !unix

package shards

import "os"

// mapFile reads the file into memory where there is no memory map to be had.
func mapFile(path string) ([]byte, os.FileInfo, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	info, err := os.Stat(path)
	return data, info, err
}

func unmapFile([]byte) error { return nil }

func forget([]byte, int, int) {}
