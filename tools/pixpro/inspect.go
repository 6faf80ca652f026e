package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/seed-436d2970/pixpro/internal/atomicfile"
	"github.com/seed-436d2970/pixpro/shards"
)

func newInspect() *cobra.Command {
	var (
		dir, out string
		row      int64
		asJSON   bool
	)
	cmd := &cobra.Command{
		Use:   "inspect --shards DIR",
		Short: "Say what shards hold, or take one image out",
		Long: `Print the classes with their images, the formats, histograms of the images'
longer sides and of their encoded sizes, and the columns of a shard.

With --row the columns of one image are printed, and --out writes the image
itself, byte for byte as the shard has it.`,
		Example: `  pixpro inspect --shards shards/
  pixpro inspect --shards shards/ --json | jq .formats
  pixpro inspect --shards shards/ --row 17 --out 17.jpg`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := required(cmd, "shards"); err != nil {
				return err
			}
			one := cmd.Flags().Changed("row")
			if out != "" && !one {
				return usageError{fmt.Errorf("--out %s: --row says which image to write", out)}
			}
			dataset, err := shards.Open(dir)
			if err != nil {
				return err
			}
			defer dataset.Close()
			if one {
				return inspectRow(cmd, dataset, row, out, asJSON)
			}
			return inspectAll(cmd.Context(), cmd, dataset, asJSON)
		},
	}
	f := cmd.Flags()
	f.StringVar(&dir, "shards", "", "folder of shards")
	f.Int64Var(&row, "row", 0, "number of an image, from 0")
	f.StringVar(&out, "out", "", "file for the image of --row")
	f.BoolVar(&asJSON, "json", false, "print as JSON")
	return cmd
}

// rowReport is one row without its image.
type rowReport struct {
	Row    int64  `json:"row"`
	Key    string `json:"key"`
	Label  int32  `json:"label"`
	Class  string `json:"class,omitempty"`
	Format string `json:"format"`
	Width  int32  `json:"width"`
	Height int32  `json:"height"`
	CRC32C uint32 `json:"crc32c"`
	Bytes  int    `json:"bytes"`
}

func inspectRow(cmd *cobra.Command, dataset *shards.Dataset, row int64, out string, asJSON bool) error {
	s, err := dataset.Sample(row)
	if err != nil {
		return err
	}
	if out != "" {
		err := atomicfile.WriteTo(out, func(w io.Writer) error {
			_, err := w.Write(s.Image)
			return err
		})
		if err != nil {
			return err
		}
	}
	r := rowReport{Row: row, Key: s.Key, Label: s.Label, Format: s.Format, Width: s.Width, Height: s.Height, CRC32C: s.CRC32C, Bytes: len(s.Image)}
	class := "no class"
	if s.Label >= 0 {
		r.Class = dataset.Classes()[s.Label]
		class = fmt.Sprintf("class %d (%s)", r.Label, r.Class)
	}
	return result(cmd, asJSON, r, fmt.Sprintf("row %d: %s, %s, %s of %d x %d pixels, %d bytes, crc32c %08x\n",
		row, r.Key, class, r.Format, r.Width, r.Height, r.Bytes, r.CRC32C))
}

func inspectAll(ctx context.Context, cmd *cobra.Command, dataset *shards.Dataset, asJSON bool) error {
	s, err := dataset.Summarize(ctx)
	if err != nil {
		return err
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%s of %s in %s, %s, in the order %s", count(s.Rows, "image", "images"), count(int64(len(s.Classes)), "class", "classes"),
		count(int64(s.Shards), "shard", "shards"), count(s.Bytes, "byte", "bytes"), s.Order)
	if s.Order == shards.OrderShuffle {
		fmt.Fprintf(&text, " (seed %d)", s.Seed)
	}
	if s.MaxSide > 0 {
		fmt.Fprintf(&text, "; longer sides were shrunk to %d pixels", s.MaxSide)
	}
	text.WriteString("\n")
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	table := func(head string) { fmt.Fprintf(w, "\n%s\timages\t\n", head) }
	table("class")
	for _, c := range s.Classes {
		fmt.Fprintf(w, "%d %s\t%d\t\n", c.Label, c.Name, c.Rows)
	}
	if s.Unlabelled > 0 {
		fmt.Fprintf(w, "no class\t%d\t\n", s.Unlabelled)
	}
	table("format")
	for _, name := range slices.Sorted(maps.Keys(s.Formats)) {
		fmt.Fprintf(w, "%s\t%d\t\n", name, s.Formats[name])
	}
	for _, h := range []struct {
		head string
		bins []shards.Bin
	}{{"longer side, pixels", s.Sides}, {"encoded, bytes", s.Files}} {
		table(h.head)
		for _, bin := range h.bins {
			fmt.Fprintf(w, "%d to %d\t%d\t %s\n", bin.From, bin.To-1, bin.Rows, strings.Repeat("#", int(40*bin.Rows/s.Rows)))
		}
	}
	fmt.Fprint(w, "\ncolumn\ttype\t\n")
	for _, c := range s.Schema {
		fmt.Fprintf(w, "%s\t%s\t\n", c.Name, c.Type)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return result(cmd, asJSON, s, text.String())
}
