package train

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/seed-436d2970/pixpro/train/checkpoint"
	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/method"
	"github.com/seed-436d2970/pixpro/train/nn"
	"github.com/seed-436d2970/pixpro/train/safetensors"
	"github.com/seed-436d2970/pixpro/train/weights"
)

// Weights are parameters and running statistics from a file or a checkpoint,
// under the names that a model has for them.
type Weights struct {
	Path, Format string
	Tensors      []safetensors.Tensor
	// Checkpoint is where they come from, nil for a file of another program.
	Checkpoint *checkpoint.Checkpoint
}

// formatCheckpoint is the Format of weights that were read from a checkpoint.
const formatCheckpoint = "checkpoint"

// ReadWeights reads a checkpoint, the latest of a training output, or a file
// that weights.Read can read: torchvision's names stand for the encoder, and
// "module." before a name, as the published implementation has it, is dropped.
func ReadWeights(path string) (*Weights, error) {
	if info, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("train: weights: %w", err)
	} else if err == nil && info.IsDir() {
		c, f, err := checkpoint.Read(path)
		if err != nil {
			return nil, fmt.Errorf("train: %w", err)
		}
		w := &Weights{Path: c.Dir, Format: formatCheckpoint, Checkpoint: c}
		for _, name := range f.Names() {
			t, _ := f.Tensor(name)
			w.Tensors = append(w.Tensors, t)
		}
		return w, nil
	}
	f, err := weights.Read(path)
	if err != nil {
		return nil, fmt.Errorf("train: %w", err)
	}
	w := &Weights{Path: path, Format: f.Format, Tensors: f.Tensors}
	whole := false // more than an encoder
	for i := range w.Tensors {
		w.Tensors[i].Name = strings.TrimPrefix(w.Tensors[i].Name, "module.")
		whole = whole || strings.HasPrefix(w.Tensors[i].Name, queryEncoder)
	}
	for i := range w.Tensors {
		if !whole {
			w.Tensors[i].Name = queryEncoder + w.Tensors[i].Name
		}
	}
	return w, nil
}

// What the names of the branches' parameters begin with.
const (
	queryEncoder = "encoder."
	keyEncoder   = "encoder_k."
)

// InitReport says what a new run took from a file of weights.
type InitReport struct {
	Path   string `json:"path"`
	Format string `json:"format"`
	// Taken are the model's tensors that were set, Copied those of the key
	// branch that the file does not have and that became copies of the query
	// branch, Random those that start as without the file.
	Taken  []string `json:"taken"`
	Copied []string `json:"copied"`
	Random []string `json:"random"`
	// Left are the file's tensors that found no place, with the reason.
	Left []string `json:"left"`
}

// String is the report in a few lines, names of a kind in one.
func (r *InitReport) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%s): %d tensors taken", r.Path, r.Format, len(r.Taken))
	for _, part := range []struct {
		what  string
		names []string
	}{{"copied to the key branch", r.Copied}, {"left at random", r.Random}, {"of the file not used", r.Left}} {
		if n := len(part.names); n > 0 {
			const most = 6
			fmt.Fprintf(&b, "; %d %s: %s", n, part.what, strings.Join(part.names[:min(n, most)], ", "))
			if n > most {
				b.WriteString(", …")
			}
		}
	}
	return b.String()
}

// initialise sets a new model's parameters from a file. The encoder must fit
// wholly; heads are taken where they fit. What the key branch lacks it gets
// from the query branch.
func initialise(m *method.Model, d device.Device, path string) (*InitReport, error) {
	w, err := ReadWeights(path)
	if err != nil {
		return nil, err
	}
	tensors := map[string]safetensors.Tensor{}
	for _, t := range w.Tensors {
		tensors[t.Name] = t
	}
	find := func(name string) (safetensors.Tensor, bool) { t, ok := tensors[name]; return t, ok }
	r := &InitReport{Path: w.Path, Format: w.Format}
	values := map[string][]float32{} // of the tensors that were taken
	var problems []error
	for _, p := range m.Parameters() {
		if _, ok := find(p.Name); !ok {
			if query := values[queryName(p.Name)]; query != nil {
				if err := p.Load(d, query); err != nil {
					return nil, fmt.Errorf("train: %s: %w", p.Name, err)
				}
				r.Copied = append(r.Copied, p.Name)
				continue
			}
		}
		v, err := p.Match(find)
		if errors.Is(err, nn.ErrParameters) {
			if strings.HasPrefix(queryName(p.Name), queryEncoder) {
				problems = append(problems, err)
			}
			r.Random = append(r.Random, p.Name)
			continue
		}
		if err == nil {
			err = p.Load(d, v)
		}
		if err != nil {
			return nil, fmt.Errorf("train: %s: %w", w.Path, err)
		}
		values[p.Name] = v
		r.Taken = append(r.Taken, p.Name)
		delete(tensors, p.Name)
	}
	if n := len(problems); n > 0 {
		return nil, fmt.Errorf("train: the encoder of %s does not fit (is it another arch, stem or width?): %d of its tensors, first: %w", w.Path, n, problems[0])
	}
	for _, t := range w.Tensors {
		if _, unused := tensors[t.Name]; unused && !strings.HasSuffix(t.Name, ".num_batches_tracked") {
			r.Left = append(r.Left, fmt.Sprintf("%s %v", t.Name, t.Shape))
		}
	}
	return r, nil
}

// queryName is the name of a key parameter's counterpart in the query branch;
// other names stay.
func queryName(name string) string {
	if part, rest, ok := strings.Cut(name, "."); ok {
		return strings.TrimSuffix(part, "_k") + "." + rest
	}
	return name
}
