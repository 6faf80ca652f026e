package options_test

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/seed-436d2970/pixpro/train/options"
)

var update = flag.Bool("update", false, "write docs/options.md anew")

const docsFile = "../../docs/options.md"

const docsHead = `# Options of a training run

What ` + "`pixpro train`" + ` takes on the command line, and with ` + "`--config FILE`" + ` from a YAML file (names without the dashes), and what ` + "`train.Run`" + ` takes from Go as ` + "`options.Options`" + `. A run that goes on from a checkpoint must have the same value where the table says so; a recipe may have another name or place, if it has the same contents.

This page is made from the table of options: ` + "`go test ./train/options -run TestDocs -update`" + ` writes it.

`

// TestDocs holds docs/options.md to the table.
func TestDocs(t *testing.T) {
	var b strings.Builder
	b.WriteString(docsHead)
	o := options.Default()
	if err := o.WriteMarkdown(&b); err != nil {
		t.Fatal(err)
	}
	want := strings.TrimRight(b.String(), "\n") + "\n"
	if *update {
		if err := os.WriteFile(docsFile, []byte(want), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(docsFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what the table says: go test ./train/options -run TestDocs -update", docsFile)
	}
}
