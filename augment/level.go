package augment

import "github.com/seed-436d2970/pixpro/internal/cpu"

// level is the vector instructions in use. The portable code is what a vector
// kernel must equal, byte for byte; a kernel does as many pixels from the first
// on as suit it, says how many, and leaves the rest to the portable code.
var level = cpu.Current()
