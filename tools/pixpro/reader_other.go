//go:build !unix

package main

import (
	"context"
	"os"
)

// whileRead is for systems on which a reader that goes away shows at the next
// write.
func whileRead(ctx context.Context, _ *os.File) (context.Context, func()) { return ctx, func() {} }
