package options

import (
	"fmt"
	"io"
	"strings"
)

// WriteMarkdown writes the table as it stands in docs/options.md.
func (o *Options) WriteMarkdown(w io.Writer) error {
	for _, g := range Groups() {
		if _, err := fmt.Fprintf(w, "## %s\n\n| option | default | resumed run | |\n| --- | --- | --- | --- |\n", strings.ToUpper(string(g[:1]))+string(g[1:])); err != nil {
			return err
		}
		for _, r := range o.Rows() {
			if r.Group != g {
				continue
			}
			value, change := r.String(), "may change"
			if value != "" {
				value = "`" + value + "`"
			}
			if !r.Change {
				change = "the same"
			}
			if _, err := fmt.Fprintf(w, "| `--%s` %s | %s | %s | %s |\n", r.Name, r.Type(), value, change, strings.ReplaceAll(r.Help, "|", "\\|")); err != nil {
				return err
			}
		}
		if _, err := io.WriteString(w, "\n"); err != nil {
			return err
		}
	}
	return nil
}
