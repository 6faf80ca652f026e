// Package driver opens NVIDIA's driver, libcuda.so.1, at run time for
// gorgonia.org/cu, which would otherwise have to be linked to it: so a program
// starts where there is no driver, says so, and ends with 1.
//
// The functions that are called are defined here and lead to the driver's. A
// driver that lacks some of them is as good as any while nobody calls those. The
// package is empty without the build tag cuda.
package driver
