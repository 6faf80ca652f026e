package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/seed-436d2970/pixpro/internal/cpu"
	"github.com/seed-436d2970/pixpro/internal/gemm"
)

// devicesInfo is what "pixpro devices" found.
type devicesInfo struct {
	Processor processorInfo `json:"cpu"`
	Cards     []cardInfo    `json:"cards"`
	Driver    string        `json:"driver,omitempty"`    // the newest CUDA that the driver knows
	Toolkit   string        `json:"toolkit,omitempty"`   // of NVRTC, which compiles the kernels
	Libraries []libraryInfo `json:"libraries,omitempty"` // of the toolkit that were found
	Missing   string        `json:"missing,omitempty"`   // which were not, and what was tried
	Program   string        `json:"program,omitempty"`   // pixpro-cuda, if another program than this computes on the cards
	NoCards   string        `json:"no_cards,omitempty"`  // why there are none
}

type processorInfo struct {
	Name           string `json:"name"`
	Threads        int    `json:"threads"`
	Vectors        string `json:"vector_instructions"`
	MatrixProducts string `json:"matrix_products"`
}

type cardInfo struct {
	Device            string `json:"device"` // as --device takes it
	Name              string `json:"name"`
	MemoryBytes       int64  `json:"memory_bytes"`
	ComputeCapability string `json:"compute_capability"`
	Multiprocessors   int    `json:"multiprocessors"`
	BF16              bool   `json:"bf16"` // has units for bf16 and tf32
}

// libraryInfo is one of the toolkit's libraries.
type libraryInfo struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Path    string `json:"path"`
}

// listCards adds the cards, driver and toolkit. It is nil in a binary without CUDA.
var listCards func(*devicesInfo) error

func newDevices() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "devices",
		Short: "List what training can compute on",
		Long: `List what train and bench step take as --device: the processor, and the NVIDIA
cards that pixpro-cuda finds, with their memory, the driver, and the libraries of
the toolkit that were found; or what was tried to find them.`,
		Example: `  pixpro devices
  pixpro devices --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d := devicesInfo{
				Processor: processorInfo{Name: processorName(), Threads: cpu.Cores(), Vectors: cpu.Assembly().String(), MatrixProducts: gemm.Name()},
				Cards:     []cardInfo{},
			}
			switch {
			case listCards != nil:
				if err := listCards(&d); err != nil {
					return err
				}
			case os.Getenv(handedOver) == "":
				program, err := findCUDA()
				var found devicesInfo
				if err == nil {
					d.Program = program
					found, err = askCUDA(cmd.Context(), program)
				}
				if err != nil {
					d.NoCards = err.Error()
					break
				}
				d.Cards, d.Driver, d.Toolkit = found.Cards, found.Driver, found.Toolkit
				d.Libraries, d.Missing = found.Libraries, found.Missing
			}
			return result(cmd, asJSON, d, d.text())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return cmd
}

func (d devicesInfo) text() string {
	var b strings.Builder
	p := d.Processor
	fmt.Fprintf(&b, "cpu     %s, %d threads, vector instructions %s, matrix products by %s\n", p.Name, p.Threads, p.Vectors, p.MatrixProducts)
	for _, c := range d.Cards {
		precisions := "fp32, tf32, bf16"
		if !c.BF16 {
			precisions = "fp32"
		}
		fmt.Fprintf(&b, "%-7s %s, %.1f GiB, compute capability %s, %d multiprocessors, %s\n", c.Device, c.Name, float64(c.MemoryBytes)/(1<<30), c.ComputeCapability, c.Multiprocessors, precisions)
	}
	if d.Driver != "" {
		fmt.Fprintf(&b, "CUDA    driver for up to %s", d.Driver)
		if d.Program != "" {
			fmt.Fprintf(&b, ", used by %s", d.Program)
		}
		b.WriteString("\n")
	}
	for _, l := range d.Libraries {
		fmt.Fprintf(&b, "        %s %s, %s\n", l.Name, l.Version, l.Path)
	}
	if d.Missing != "" {
		fmt.Fprintf(&b, "missing %s\n", strings.ReplaceAll(d.Missing, "\n", "\n        "))
	}
	if d.NoCards != "" {
		fmt.Fprintf(&b, "no cards: %s\n", d.NoCards)
	}
	return b.String()
}

// processorName is what the system calls the processor.
func processorName() string {
	name := runtime.GOARCH
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return name
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if key, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return name
}
