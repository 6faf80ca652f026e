package lock

import "os"

// methods are the ways to lock a file: by flock, and by fcntl as on NFS.
var methods = map[string]func(*os.File) error{"file": lockFile, "range": lockRange}
