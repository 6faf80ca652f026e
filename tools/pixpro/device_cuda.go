//go:build cuda

package main

// builtForCUDA says that this binary opens NVIDIA cards itself.
const builtForCUDA = true
