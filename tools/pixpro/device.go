package main

import (
	"context"
	"errors"
	"strings"

	_ "github.com/seed-436d2970/pixpro/train/device/cuda"
	"github.com/seed-436d2970/pixpro/train/options"
)

// errNoCUDA is the error of asking a binary without CUDA for a card.
var errNoCUDA = errors.New("this pixpro computes on the processor only: build pixpro-cuda by make cuda (docs/cuda.md) and put it beside pixpro or on PATH, or use --device cpu")

// chooseProgram hands over to pixpro-cuda if a device is asked for that this
// binary cannot open: a card, or with auto one that is there.
func chooseProgram(ctx context.Context, device string) error {
	kind, _, _ := strings.Cut(device, ":")
	switch {
	case builtForCUDA:
		return nil
	case kind == "cuda", kind == options.Auto && cardsAvailable(ctx):
		return handOver(ctx)
	}
	return nil
}
