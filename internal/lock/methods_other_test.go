//go:build !linux

package lock

import "os"

// methods are the ways to lock a file.
var methods = map[string]func(*os.File) error{"file": lockFile}
