package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/rs/zerolog/log"

	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/device/cpu"
	"github.com/seed-436d2970/pixpro/train/device/cuda"
)

// openCUDA opens a card. It is nil in a binary without CUDA.
var openCUDA func(o cuda.Options) (device.Device, error)

// errNoCUDA is the error of asking a binary without CUDA for a card.
var errNoCUDA = errors.New("this pixpro computes on the processor only: build pixpro-cuda by make cuda (docs/cuda.md) and put it beside pixpro or on PATH, or use --device cpu")

// deviceSpec is the value of --device.
type deviceSpec struct {
	kind    string // cpu, cuda or auto
	ordinal int    // of the card
}

func parseDevice(s string) (deviceSpec, error) {
	kind, number, numbered := strings.Cut(s, ":")
	spec := deviceSpec{kind: kind}
	if numbered {
		n, err := strconv.ParseUint(number, 10, 8)
		if err != nil || kind != "cuda" {
			return spec, fmt.Errorf("--device %q: use cpu, cuda, cuda:N or auto", s)
		}
		spec.ordinal = int(n)
	}
	switch kind {
	case "cpu", "cuda", "auto":
		return spec, nil
	}
	return spec, fmt.Errorf("--device %q: use cpu, cuda, cuda:N or auto", s)
}

// openDevice opens what --device, --precision and --threads ask for. With auto
// that is the first card, if there is one. A binary without CUDA hands over to
// one that has it.
func openDevice(ctx context.Context, name, precision string, threads int) (device.Device, error) {
	spec, err := parseDevice(name)
	if err != nil {
		return nil, usageError{err}
	}
	p, err := cuda.ParsePrecision(precision)
	if err != nil {
		return nil, usageError{fmt.Errorf("--%w", err)}
	}
	if spec.kind == "cpu" && p != cuda.FP32 {
		return nil, usageError{fmt.Errorf("--precision %s: the processor computes in fp32 only; add --device cuda", p)}
	}
	switch {
	case spec.kind == "cpu":
		return cpu.New(threads), nil
	case spec.kind == "auto" && openCUDA == nil && !cardsAvailable(ctx):
		return insteadOfCard(p, threads)
	case openCUDA == nil:
		return nil, handOver(ctx)
	}
	d, err := openCUDA(cuda.Options{Ordinal: spec.ordinal, Precision: p})
	if err != nil && spec.kind == "auto" {
		log.Warn().Err(err).Msg("no card can be used")
		return insteadOfCard(p, threads)
	}
	return d, err
}

// insteadOfCard is the processor, where auto finds no card.
func insteadOfCard(p cuda.Precision, threads int) (device.Device, error) {
	if p != cuda.FP32 {
		return nil, usageError{fmt.Errorf("--precision %s: there is no card, and the processor computes in fp32 only: leave it out", p)}
	}
	log.Info().Msg("there is no card: computing on the processor")
	return cpu.New(threads), nil
}
