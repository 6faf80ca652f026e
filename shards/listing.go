package shards

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/seed-436d2970/pixpro/shards/ingest"
)

// listing is the content of all inputs, in the order of the output.
type listing struct {
	classes      []string
	files        []ingest.File
	skipped      int64 // that are not even looked at
	unlabelled   int64 // named like images, and without a class
	unusedLabels int64 // names in files of labels that no input has
}

// listSources lists and joins the inputs.
func listSources(ctx context.Context, cfg *WriteConfig, sources []ingest.Source) (*listing, error) {
	var given *ingest.Labels
	if cfg.Labels != "" {
		var err error
		if given, err = ingest.ReadLabels(cfg.Labels); err != nil {
			return nil, err
		}
		if given.InOrder() && len(sources) > 1 {
			return nil, fmt.Errorf("%s: labels without names fit one input, there are %d", cfg.Labels, len(sources))
		}
	}
	inputs := make([]*ingest.Contents, len(sources))
	for i, s := range sources {
		c, err := s.List(ctx)
		if err == nil {
			err = c.Check()
		}
		if err != nil {
			return nil, err
		}
		if given != nil {
			if err := given.Apply(c); err != nil {
				return nil, err
			}
		}
		inputs[i] = c
	}
	l := &listing{}
	if given != nil {
		l.unusedLabels = given.Unused()
	}
	if err := l.joinClasses(inputs); err != nil {
		return nil, err
	}
	for i, c := range inputs {
		l.skipped += c.Skipped
		l.unusedLabels += c.UnusedLabels
		for j := range c.Files {
			f := &c.Files[j]
			f.Input = uint16(i)
			if f.Label < 0 && f.Fault == ingest.FaultNone && ingest.HasImageExtension(f.Key) {
				l.unlabelled++
			}
		}
		if i == 0 {
			l.files = c.Files // without a copy of what can be millions
		} else {
			l.files = append(l.files, c.Files...)
		}
		inputs[i] = nil
	}
	l.sort()
	if l.clash() >= 0 {
		l.prefixKeys(cfg.inputs())
		if i := l.clash(); i >= 0 {
			f := l.files[i]
			return nil, fmt.Errorf("%s and another input of that name both have %s: rename one of them", cfg.inputs()[f.Input], f.Key)
		}
	}
	l.markReplaced()
	if cfg.Order == OrderShuffle {
		l.shuffle(cfg.Seed)
	}
	return l, nil
}

// joinClasses numbers the classes of all inputs together.
func (l *listing) joinClasses(inputs []*ingest.Contents) error {
	numbered, named := false, false
	for _, c := range inputs {
		numbered = numbered || c.Numbered
		named = named || !c.Numbered && len(c.Classes) > 0
	}
	if numbered && named {
		return errors.New("some inputs number their classes and some name them: write them to datasets of their own, or give --labels with names for all")
	}
	if numbered {
		l.classes = joinNumbered(inputs)
		return nil
	}
	for _, c := range inputs {
		l.classes = append(l.classes, c.Classes...)
	}
	slices.Sort(l.classes)
	l.classes = slices.Compact(l.classes)
	for _, c := range inputs {
		label := make([]int32, len(c.Classes))
		for i, name := range c.Classes {
			n, _ := slices.BinarySearch(l.classes, name)
			label[i] = int32(n)
		}
		for i := range c.Files {
			if f := &c.Files[i]; f.Label >= 0 {
				f.Label = label[f.Label]
			}
		}
	}
	return nil
}

// joinNumbered returns the names of numbered classes: those that the inputs
// have for them, or the numbers if there are not enough names or some are used
// twice.
func joinNumbered(inputs []*ingest.Contents) []string {
	var classes []string
	unnamed := false
	for _, c := range inputs {
		for i, name := range c.Classes {
			if i == len(classes) {
				classes = append(classes, "")
			}
			unnamed = unnamed || classes[i] != "" && name != "" && classes[i] != name
			if name != "" {
				classes[i] = name
			}
		}
	}
	seen := make(map[string]bool, len(classes))
	for i, name := range classes {
		if name == "" {
			classes[i] = strconv.Itoa(i)
		}
		unnamed = unnamed || seen[classes[i]]
		seen[classes[i]] = true
	}
	if unnamed {
		for i := range classes {
			classes[i] = strconv.Itoa(i)
		}
	}
	return classes
}

func (l *listing) sort() {
	slices.SortFunc(l.files, func(a, b ingest.File) int {
		return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(a.Input, b.Input), cmp.Compare(a.At, b.At))
	})
}

// clash is the place of a key that a second input has too, -1 without one.
func (l *listing) clash() int {
	for i := 1; i < len(l.files); i++ {
		if a, b := &l.files[i-1], &l.files[i]; a.Key == b.Key && a.Input != b.Input {
			return i
		}
	}
	return -1
}

// prefixKeys puts the name of the input in front of every key.
func (l *listing) prefixKeys(inputs []string) {
	for i := range l.files {
		f := &l.files[i]
		f.Key = inputName(inputs[f.Input]) + "/" + f.Key
	}
	l.sort()
}

// inputName is an input's file name without extensions.
func inputName(path string) string {
	name := filepath.Base(filepath.Clean(path))
	for _, extension := range []string{".gz", ".zst", ".tgz", ".tar", ".zip", ".txt"} {
		name = strings.TrimSuffix(name, extension)
	}
	return name
}

// markReplaced keeps the last of the files of one name: it is the one that
// unpacking would leave.
func (l *listing) markReplaced() {
	for i := 1; i < len(l.files); i++ {
		if l.files[i].Key == l.files[i-1].Key {
			l.files[i-1].Fault = ingest.FaultReplaced
		}
	}
}

// shuffle puts the files in the order of a permutation (Fisher and Yates's,
// on PCG) that depends on the seed and their number alone.
func (l *listing) shuffle(seed uint64) {
	rng := rand.NewPCG(seed, 1)
	for i := len(l.files) - 1; i > 0; i-- {
		j, _ := bits.Mul64(rng.Uint64(), uint64(i)+1)
		l.files[i], l.files[j] = l.files[j], l.files[i]
	}
}

// digest identifies the listing: two inputs with the same one have the same
// files, labels and classes, in the same order.
func (l *listing) digest() string {
	h := sha256.New()
	for _, c := range l.classes {
		fmt.Fprintf(h, "%s\x00", c)
	}
	for _, f := range l.files {
		fmt.Fprintf(h, "\x01%s\x00%d %d %d %d", f.Key, f.Label, f.Size, f.Input, f.Fault)
	}
	return hex.EncodeToString(h.Sum(nil))
}
