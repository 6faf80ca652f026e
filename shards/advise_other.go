//go:build !unix

package shards

func willNeed([]byte, int, int) {}
