package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/seed-436d2970/pixpro/augment/decode"
	"github.com/seed-436d2970/pixpro/internal/cpu"
	"github.com/seed-436d2970/pixpro/internal/gemm"
	"github.com/seed-436d2970/pixpro/internal/version"
)

// versionInfo says what this binary is and which faster parts it found.
type versionInfo struct {
	Version        string `json:"version"`
	Go             string `json:"go"`
	Platform       string `json:"platform"`
	CPU            string `json:"cpu"`
	MatrixProducts string `json:"matrix_products"`
	JPEG           string `json:"jpeg"`
	NoLibrary      string `json:"no_blas,omitempty"`
	NoTurboJPEG    string `json:"no_libjpeg_turbo,omitempty"`
}

func newVersion() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version and the faster parts in use",
		Long: `Print the version, and which vector instructions, library for matrix products
and JPEG decoder were found. docs/architecture.md says how to choose them.`,
		Example: `  pixpro version
  pixpro version --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := versionInfo{
				Version: version.String(), Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
				CPU: cpu.Assembly().String(), MatrixProducts: gemm.Name(), JPEG: decode.JPEG(),
			}
			if err := gemm.LibraryError(); err != nil {
				v.NoLibrary = err.Error()
			}
			if err := decode.LibraryError(); err != nil {
				v.NoTurboJPEG = err.Error()
			}
			text := fmt.Sprintf("pixpro %s (%s, %s)\nvector instructions: %s (at most %s; PIXPRO_CPU lowers it)\n", v.Version, v.Go, v.Platform, v.CPU, cpu.Processor)
			if cpu.Available == cpu.Generic && cpu.Processor > cpu.Generic {
				text += "                     but for matrix products none: built without GOEXPERIMENT=simd\n"
			}
			text += fmt.Sprintf("matrix products:     %s\n", v.MatrixProducts)
			if v.NoLibrary != "" {
				text += "                     " + v.NoLibrary + "\n"
				if v.MatrixProducts == gemm.Portable {
					text += "                     Install OpenBLAS, or name a BLAS in PIXPRO_BLAS, to train faster.\n"
				}
			}
			text += fmt.Sprintf("JPEG:                %s\n", v.JPEG)
			if v.NoTurboJPEG != "" {
				text += "                     " + v.NoTurboJPEG + "\n                     Install libjpeg-turbo (libturbojpeg0), or name it in PIXPRO_JPEG, for faster decoding that equals Pillow's.\n"
			}
			return result(cmd, asJSON, v, text)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return cmd
}
