//go:build cuda

package main

import (
	"errors"
	"fmt"

	"gorgonia.org/cu"

	"github.com/seed-436d2970/pixpro/train/device/cuda/cublas"
	"github.com/seed-436d2970/pixpro/train/device/cuda/cudnn"
	"github.com/seed-436d2970/pixpro/train/device/cuda/nvrtc"
	"github.com/seed-436d2970/pixpro/train/device/cuda/toolkit"
)

func init() { listCards = cardsOfDriver }

// cardsOfDriver asks the driver, without touching the cards' memory.
func cardsOfDriver(d *devicesInfo) error {
	driver := cu.Version()
	if driver < 0 {
		return errors.New("the driver does not tell its version")
	}
	d.Driver = toolkit.Version(driver)
	// What is missing is told beside the cards that are there.
	compiler, err := nvrtc.Open(driver)
	if err == nil {
		d.Toolkit = compiler.Version()
		d.Libraries = append(d.Libraries, libraryInfo{"NVRTC", compiler.Version(), compiler.Library.Path})
	}
	missing := err
	blas, err := cublas.Open(driver)
	var version string
	if err == nil {
		version, err = blas.Version()
	}
	if err == nil {
		d.Libraries = append(d.Libraries, libraryInfo{"cuBLAS", version, blas.Path})
	}
	if dnn, err := cudnn.Open(driver); err == nil { // which may be missing
		d.Libraries = append(d.Libraries, libraryInfo{"cuDNN", dnn.Version(), dnn.Path})
	}
	if missing = errors.Join(missing, err); missing != nil {
		d.Missing = missing.Error()
	}
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
