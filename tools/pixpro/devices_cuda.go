//go:build cuda

package main

import (
	"fmt"

	"gorgonia.org/cu"
	"gorgonia.org/cu/nvrtc"

	"github.com/seed-436d2970/pixpro/train/device/cuda"
)

func init() { listCards = cardsOfDriver }

// cardsOfDriver asks the driver, without touching the cards' memory.
func cardsOfDriver(d *devicesInfo) error {
	major, minor, err := nvrtc.Version()
	if err != nil {
		return fmt.Errorf("version of NVRTC: %w", err)
	}
	d.Driver, d.Toolkit = cuda.Version(cu.Version()), fmt.Sprintf("%d.%d", major, minor)
	count, err := cu.NumDevices()
	if err != nil {
		return fmt.Errorf("count cards: %w", err)
	}
	for i := range count {
		c, err := describeCard(i)
		if err != nil {
			return fmt.Errorf("card %d: %w", i, err)
		}
		d.Cards = append(d.Cards, c)
	}
	return nil
}

func describeCard(ordinal int) (cardInfo, error) {
	c := cardInfo{Device: fmt.Sprintf("cuda:%d", ordinal)}
	card, err := cu.GetDevice(ordinal)
	if err != nil {
		return c, err
	}
	if c.Name, err = card.Name(); err != nil {
		return c, err
	}
	if c.MemoryBytes, err = card.TotalMem(); err != nil {
		return c, err
	}
	major, minor, err := card.ComputeCapability()
	if err != nil {
		return c, err
	}
	c.ComputeCapability, c.BF16 = fmt.Sprintf("%d.%d", major, minor), major >= 8
	c.Multiprocessors, err = card.Attribute(cu.MultiprocessorCount)
	return c, err
}
