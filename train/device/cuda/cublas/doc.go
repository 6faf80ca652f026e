// Package cublas is a thin binding of the parts of cuBLAS that training needs
// and gorgonia.org/cu/blas lacks: streams, batches and types. It is empty
// without the build tag cuda.
package cublas
