package checkpoint

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/seed-436d2970/pixpro/augment"
	"github.com/seed-436d2970/pixpro/internal/atomicfile"
	"github.com/seed-436d2970/pixpro/internal/version"
	"github.com/seed-436d2970/pixpro/pipeline"
	"github.com/seed-436d2970/pixpro/train/options"
	"github.com/seed-436d2970/pixpro/train/safetensors"
	"go.yaml.in/yaml/v3"
)

// What a training output holds.
const (
	Folder     = "checkpoints" // of checkpoints and LatestFile
	LatestFile = "latest"      // text: the name of the newest checkpoint
)

// What a checkpoint holds.
const (
	ModelFile     = "model.safetensors"     // parameters and running statistics
	OptimizerFile = "optimizer.safetensors" // momentum
	ConfigFile    = "config.yaml"           // options
	StateFile     = "state.json"            // a State
)

const (
	stepPrefix = "step-"
	temporary  = ".tmp-" // names of what is not whole begin with it
	// stateFormat is what is written. The format before has no count of bad
	// images in its position, and no limits of images in its options.
	stateFormat = 3
	firstFormat = 2
)

// FS is what checkpoints are written through. Tests put one in place of OS
// whose n-th operation fails.
type FS = atomicfile.FS

// OS is the operating system's file system.
var OS = atomicfile.OS

// State is a checkpoint's state.json: all of a run that is neither a tensor
// nor configuration.
type State struct {
	Format        int               `json:"format"`
	Step          int64             `json:"step"`  // steps done
	Epoch         int64             `json:"epoch"` // epochs done
	Position      pipeline.Position `json:"position"`
	StepsPerEpoch int64             `json:"steps_per_epoch"`
	Samples       int64             `json:"samples"` // in the dataset
	Dataset       string            `json:"dataset"` // see shards.Dataset.Digest
	Recipe        augment.Recipe    `json:"recipe"`
	Seed          uint64            `json:"seed"`
	Schedule      ScheduleState     `json:"schedule"`
	Versions      Versions          `json:"versions"`
	Files         map[string]Digest `json:"files"` // of the folder's other files
	// Sum is the SHA-256 of the state in this form without its sum.
	Sum string `json:"sha256"`
}

// ScheduleState is where the schedules stand: what the next step will use.
type ScheduleState struct {
	Steps        int64   `json:"steps"` // of the whole run
	LearningRate float64 `json:"lr"`
	KeyMomentum  float64 `json:"key_momentum"`
}

// Versions says what wrote a checkpoint.
type Versions struct {
	PixPro string `json:"pixpro"`
	Go     string `json:"go"`
	Device string `json:"device"`
}

// CurrentVersions describes this program.
func CurrentVersions(device string) Versions {
	return Versions{PixPro: version.String(), Go: runtime.Version(), Device: device}
}

// sum is what Sum must be.
func (s State) sum() (string, error) {
	s.Sum = ""
	data, err := json.Marshal(s)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}

// Digest is what a file must be.
type Digest struct {
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// ErrUnsound is the class of errors about checkpoints that are damaged or
// incomplete.
var ErrUnsound = errors.New("unsound checkpoint")

// Checkpoint is a saved run on disk that was found to be sound.
type Checkpoint struct {
	Dir     string
	State   State
	Options options.Options
}

// Open reads and checks a checkpoint, or the latest of a training output, which
// may be in the making: see Read.
func Open(path string) (*Checkpoint, error) {
	return latest(path, open)
}

// Read opens a checkpoint like Open, and reads its model's parameters and running
// statistics. A run that goes on removes checkpoints; where it removes the latest
// of an output while that is read, the next one is taken.
func Read(path string) (c *Checkpoint, model *safetensors.File, err error) {
	c, err = latest(path, func(dir string) (*Checkpoint, error) {
		c, err := open(dir)
		if err == nil {
			model, err = c.Model()
		}
		return c, err
	})
	return c, model, err
}

// open reads and checks the checkpoint in a folder.
func open(dir string) (*Checkpoint, error) {
	c := &Checkpoint{Dir: dir}
	if err := c.read(); err != nil {
		return nil, fmt.Errorf("checkpoint %s: %w", dir, err)
	}
	return c, nil
}

// latest reads a checkpoint, or of a training output the latest, until the one
// that was the latest before is so afterwards, or could be read.
func latest(path string, read func(dir string) (*Checkpoint, error)) (*Checkpoint, error) {
	if _, err := os.Stat(filepath.Join(path, Folder)); err != nil {
		return read(path)
	}
	for last := ""; ; {
		name, err := Latest(path)
		if err != nil {
			return nil, fmt.Errorf("checkpoint: %w", err)
		}
		c, err := read(filepath.Join(path, Folder, name))
		if err == nil || name == last {
			return c, err
		}
		last = name
	}
}

// Latest is the name of a training output's latest checkpoint: of the newest
// where a run was killed just before it could note that.
func Latest(output string) (string, error) {
	text, err := os.ReadFile(filepath.Join(output, Folder, LatestFile))
	if err == nil {
		return filepath.Base(strings.TrimSpace(string(text))), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	names, err := Names(output)
	if err == nil && len(names) == 0 {
		err = fmt.Errorf("%w: %s has no finished checkpoint", ErrUnsound, output)
	}
	if err != nil {
		return "", err
	}
	return names[len(names)-1], nil
}

func (c *Checkpoint) read() error {
	data, err := os.ReadFile(filepath.Join(c.Dir, StateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: no %s: not a checkpoint or training output", ErrUnsound, StateFile)
	}
	if err != nil {
		return err
	}
	if err := checkFormat(data); err != nil {
		return err
	}
	if err := json.Unmarshal(data, &c.State); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrUnsound, StateFile, err)
	}
	if sum, err := c.State.sum(); err != nil || sum != c.State.Sum {
		return errors.Join(fmt.Errorf("%w: %s has SHA-256 %s, was written with %s", ErrUnsound, StateFile, sum, c.State.Sum), err)
	}
	for _, name := range []string{ModelFile, OptimizerFile, ConfigFile} {
		want, ok := c.State.Files[name]
		if !ok {
			return fmt.Errorf("%w: %s does not list %s", ErrUnsound, StateFile, name)
		}
		if err := check(filepath.Join(c.Dir, name), want); err != nil {
			return fmt.Errorf("%w: %w", ErrUnsound, err)
		}
	}
	c.Options = options.Default()
	return c.Options.ReadFile(filepath.Join(c.Dir, ConfigFile))
}

// checkFormat looks at what a state says of its format and writer alone, since a
// later one may differ in all else. A format that the writer cannot have known is
// damage.
func checkFormat(state []byte) error {
	var s struct {
		Format   int
		Versions Versions
	}
	if err := json.Unmarshal(state, &s); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrUnsound, StateFile, err)
	}
	newer := version.Newer(s.Format, stateFormat, s.Versions.PixPro)
	switch {
	case s.Format < firstFormat:
		return fmt.Errorf("%w: %s has format %d: it is damaged, or of a version before the first, where this reads %d to %d", ErrUnsound, StateFile, s.Format, firstFormat, stateFormat)
	case s.Format <= stateFormat:
		return nil
	case version.IsLater(s.Versions.PixPro):
		return fmt.Errorf("%s has %w", StateFile, newer)
	}
	return fmt.Errorf("%w: %s, if it is not damaged, has %w", ErrUnsound, StateFile, newer)
}

func check(path string, want Digest) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	d := digester{hash: sha256.New()}
	if _, err := io.Copy(&d, f); err != nil {
		return err
	}
	if got := d.digest(); got != want {
		return fmt.Errorf("%s has %d bytes and SHA-256 %s, was written with %d and %s", filepath.Base(path), got.Bytes, got.SHA256, want.Bytes, want.SHA256)
	}
	return nil
}

// digester counts and hashes what is written to it.
type digester struct {
	hash  hash.Hash
	bytes int64
}

func (d *digester) Write(p []byte) (int, error) {
	d.bytes += int64(len(p))
	return d.hash.Write(p)
}

func (d *digester) digest() Digest {
	return Digest{d.bytes, hex.EncodeToString(d.hash.Sum(nil))}
}

// Model reads the model's parameters and running statistics.
func (c *Checkpoint) Model() (*safetensors.File, error) {
	return safetensors.Read(filepath.Join(c.Dir, ModelFile))
}

// Optimizer reads the parameters' momentum.
func (c *Checkpoint) Optimizer() (*safetensors.File, error) {
	return safetensors.Read(filepath.Join(c.Dir, OptimizerFile))
}

// Newest finds the newest sound checkpoint of a training output, nil
// if there is none. What is unsound is passed over and reported.
func Newest(output string, unsound func(error)) (*Checkpoint, error) {
	names, err := Names(output)
	if err != nil {
		return nil, err
	}
	var newest error
	for _, name := range slices.Backward(names) {
		c, err := open(filepath.Join(output, Folder, name))
		if err == nil {
			return c, nil
		}
		if !errors.Is(err, ErrUnsound) {
			return nil, err
		}
		if newest == nil {
			newest = err
		}
		unsound(err)
	}
	if len(names) > 0 {
		return nil, fmt.Errorf("%w; none of the %d checkpoints in %s is sound: restore one, or choose another output", newest, len(names), output)
	}
	return nil, nil
}

// Names lists the checkpoints of a training output, oldest first.
func Names(output string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(output, Folder))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		digits, ok := strings.CutPrefix(e.Name(), stepPrefix)
		step, err := strconv.ParseInt(digits, 10, 64)
		if ok && err == nil && e.IsDir() && e.Name() == StepName(step) {
			names = append(names, e.Name()) // others are somebody's copies
		}
	}
	slices.SortFunc(names, CompareSteps)
	return names, nil
}

// CompareSteps orders names of checkpoints by their steps; those of more
// digits than names are padded to come later.
func CompareSteps(a, b string) int {
	return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
}

// StepName is the name of a step's checkpoint.
func StepName(step int64) string { return fmt.Sprintf("%s%08d", stepPrefix, step) }

// Contents are what a checkpoint is made of. Save fills in the state's Format,
// Files and Sum.
type Contents struct {
	State            State
	Options          options.Options
	Model, Optimizer []safetensors.Tensor
}

// CheckFinite looks for parameters that are not finite.
func (c *Contents) CheckFinite() error {
	for _, t := range c.Model {
		values, err := t.Float32s()
		if err != nil {
			return err
		}
		for _, v := range values {
			if d := v - v; d != 0 { // not a number, or infinite
				return fmt.Errorf("%s holds %v", t.Name, v)
			}
		}
	}
	return nil
}

// Save writes a checkpoint of a training output and makes it the latest: under
// a temporary name, flushed, renamed. A failed save leaves what was there.
func Save(files FS, output string, c Contents) (dir string, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("save checkpoint of step %d in %s: %w", c.State.Step, output, err)
		}
	}()
	root := filepath.Join(output, Folder)
	if err := removeTemporary(files, root); err != nil {
		return "", err
	}
	name := StepName(c.State.Step)
	tmp := filepath.Join(root, temporary+name)
	if err := files.MkdirAll(tmp); err != nil {
		return "", err
	}
	if err := files.SyncDir(output); err != nil { // the folder of checkpoints may be new
		return "", err
	}
	if err := writeContents(files, tmp, c); err != nil {
		return "", errors.Join(err, files.RemoveAll(tmp))
	}
	dir = filepath.Join(root, name)
	// What has this step's name already was passed over as unsound.
	if err := files.RemoveAll(dir); err != nil {
		return "", err
	}
	if err := atomicfile.RenameDir(files, tmp, dir); err != nil {
		return "", err
	}
	return dir, NoteLatest(files, output, name)
}

// NoteLatest makes the checkpoint of that name an output's latest.
func NoteLatest(files FS, output, name string) error {
	return atomicfile.WriteFileOn(files, filepath.Join(output, Folder, LatestFile), []byte(name+"\n"))
}

// removeTemporary removes what killed or failed saves left.
func removeTemporary(files FS, root string) error {
	entries, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), temporary) {
			err = errors.Join(err, files.RemoveAll(filepath.Join(root, e.Name())))
		}
	}
	return err
}

// writeContents writes a checkpoint's files, state.json with the digests of
// the others at the end.
func writeContents(files FS, dir string, c Contents) error {
	settings, err := yaml.Marshal(c.Options)
	if err != nil {
		return err
	}
	c.State.Format, c.State.Files = stateFormat, map[string]Digest{}
	for _, file := range []struct {
		name    string
		content func(io.Writer) error
	}{
		{ModelFile, func(w io.Writer) error { return safetensors.Write(w, c.Model, nil) }},
		{OptimizerFile, func(w io.Writer) error { return safetensors.Write(w, c.Optimizer, nil) }},
		{ConfigFile, func(w io.Writer) error { _, err := w.Write(settings); return err }},
	} {
		if c.State.Files[file.name], err = writeDigested(files, filepath.Join(dir, file.name), file.content); err != nil {
			return err
		}
	}
	if c.State.Sum, err = c.State.sum(); err != nil {
		return err
	}
	data, err := json.MarshalIndent(c.State, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.WriteFileOn(files, filepath.Join(dir, StateFile), append(data, '\n'))
}

func writeDigested(files FS, path string, content func(io.Writer) error) (Digest, error) {
	f, err := atomicfile.CreateOn(files, path)
	if err != nil {
		return Digest{}, err
	}
	defer f.Close()
	d := digester{hash: sha256.New()}
	if err := content(io.MultiWriter(f, &d)); err != nil {
		return Digest{}, err
	}
	return d.digest(), f.Commit()
}

// Prune removes all but the newest keep checkpoints of a run that has come to
// step, and what is older. Those that are not sound, as they say who ask by their
// names, do not count: they stay for whoever wants to look at them until they are
// older than those that are kept. Later ones than step were passed over as damaged,
// and stay until the run comes there.
func Prune(files FS, output string, keep int, step int64, sound func(name string) bool) error {
	names, err := Names(output)
	if err != nil || keep == 0 {
		return err
	}
	root := filepath.Join(output, Folder)
	if err := removeTemporary(files, root); err != nil {
		return fmt.Errorf("remove old checkpoint: %w", err)
	}
	kept := 0
	for _, name := range slices.Backward(names) {
		switch {
		case CompareSteps(name, StepName(step)) > 0:
		case kept < keep:
			if sound(name) {
				kept++
			}
		default:
			// Under a temporary name first: what has a checkpoint's name is whole.
			gone := filepath.Join(root, temporary+name)
			if err := atomicfile.RenameDir(files, filepath.Join(root, name), gone); err != nil {
				return fmt.Errorf("remove old checkpoint: %w", err)
			}
			if err := files.RemoveAll(gone); err != nil {
				return fmt.Errorf("remove old checkpoint: %w", err)
			}
		}
	}
	return nil
}
