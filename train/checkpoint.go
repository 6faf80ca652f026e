package train

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
	"slices"
	"strings"

	"github.com/seed-436d2970/pixpro/internal/atomicfile"
	"github.com/seed-436d2970/pixpro/internal/safetensors"
	"github.com/seed-436d2970/pixpro/pipeline"
	"go.yaml.in/yaml/v3"
)

// A training output holds checkpoints/step-N folders and checkpoints/latest, a
// text file with the name of the newest. A checkpoint is written under a
// temporary name, flushed, and renamed: what has a checkpoint's name is whole.
const (
	checkpointsDir = "checkpoints"
	latestFile     = "latest"
	stepPrefix     = "step-"
	temporary      = ".tmp-"

	modelFile     = "model.safetensors"
	optimizerFile = "optimizer.safetensors"
	configFile    = "config.yaml"
	stateFile     = "state.json"

	stateFormat = 1
)

// State is a checkpoint's state.json: all of a run that is neither a tensor
// nor configuration.
type State struct {
	Format        int               `json:"format"`
	Step          int64             `json:"step"` // steps done
	Position      pipeline.Position `json:"position"`
	StepsPerEpoch int64             `json:"steps_per_epoch"`
	Samples       int64             `json:"samples"` // in the dataset
	Files         map[string]Digest `json:"files"`   // of the folder's other files
}

// Digest is what a file must be.
type Digest struct {
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// ErrCheckpoint is the class of errors about checkpoints that are damaged or
// incomplete.
var ErrCheckpoint = errors.New("unsound checkpoint")

// Checkpoint is a saved run on disk that was found to be sound.
type Checkpoint struct {
	Dir    string
	State  State
	Config Config
}

// OpenCheckpoint reads and checks a checkpoint, or the latest of a training
// output.
func OpenCheckpoint(path string) (*Checkpoint, error) {
	if _, err := os.Stat(filepath.Join(path, checkpointsDir)); err == nil {
		name, err := os.ReadFile(filepath.Join(path, checkpointsDir, latestFile))
		if err != nil {
			return nil, fmt.Errorf("train: %s has no finished checkpoint: %w", path, err)
		}
		path = filepath.Join(path, checkpointsDir, filepath.Base(strings.TrimSpace(string(name))))
	}
	c := &Checkpoint{Dir: path}
	if err := c.read(); err != nil {
		return nil, fmt.Errorf("train: checkpoint %s: %w", path, err)
	}
	return c, nil
}

func (c *Checkpoint) read() error {
	data, err := os.ReadFile(filepath.Join(c.Dir, stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: no %s: not a checkpoint or training output", ErrCheckpoint, stateFile)
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, &c.State); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrCheckpoint, stateFile, err)
	}
	if c.State.Format != stateFormat {
		return fmt.Errorf("format %d is not known to this version, which reads %d", c.State.Format, stateFormat)
	}
	for _, name := range []string{modelFile, optimizerFile, configFile} {
		want, ok := c.State.Files[name]
		if !ok {
			return fmt.Errorf("%w: %s does not list %s", ErrCheckpoint, stateFile, name)
		}
		if err := check(filepath.Join(c.Dir, name), want); err != nil {
			return fmt.Errorf("%w: %w", ErrCheckpoint, err)
		}
	}
	c.Config = Default()
	return c.Config.ReadConfig(filepath.Join(c.Dir, configFile))
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
	return safetensors.Read(filepath.Join(c.Dir, modelFile))
}

// newestCheckpoint finds the newest sound checkpoint of a training output, nil
// if there is none. What is unsound is passed over and reported.
func newestCheckpoint(output string, unsound func(error)) (*Checkpoint, error) {
	names, err := checkpointNames(output)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Backward(names) {
		c, err := OpenCheckpoint(filepath.Join(output, checkpointsDir, name))
		if err == nil {
			return c, nil
		}
		if !errors.Is(err, ErrCheckpoint) {
			return nil, err
		}
		unsound(err)
	}
	if len(names) > 0 {
		return nil, fmt.Errorf("train: none of the %d checkpoints in %s is sound: restore one, or choose another output", len(names), output)
	}
	return nil, nil
}

// checkpointNames lists the checkpoints of a training output, oldest first.
func checkpointNames(output string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(output, checkpointsDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && strings.HasPrefix(e.Name(), stepPrefix) {
			names = append(names, e.Name())
		}
	}
	slices.SortFunc(names, compareSteps)
	return names, nil
}

// compareSteps orders names of checkpoints by their steps; those of more
// digits than names are padded to come later.
func compareSteps(a, b string) int {
	return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
}

// stepName is the name of a step's checkpoint.
func stepName(step int64) string { return fmt.Sprintf("%s%08d", stepPrefix, step) }

// save writes a checkpoint of the given name and state and makes it the
// latest. A failed save leaves what was there.
func save(output string, state State, cfg Config, modelTensors, optimizerTensors []safetensors.Tensor) (dir string, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("train: save checkpoint of step %d in %s: %w", state.Step, output, err)
		}
	}()
	name := stepName(state.Step)
	root := filepath.Join(output, checkpointsDir)
	tmp := filepath.Join(root, temporary+name)
	dir = filepath.Join(root, name)
	// What has this step's name was passed over as unsound.
	for _, d := range []string{tmp, dir} {
		if err := os.RemoveAll(d); err != nil {
			return "", err
		}
	}
	if err := os.MkdirAll(tmp, 0o777); err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp) // after the rename there is nothing to remove

	state.Format, state.Files = stateFormat, map[string]Digest{}
	write := func(name string, content func(io.Writer) error) error {
		f, err := atomicfile.Create(filepath.Join(tmp, name))
		if err != nil {
			return err
		}
		defer f.Close()
		d := digester{hash: sha256.New()}
		if err := content(io.MultiWriter(f, &d)); err != nil {
			return err
		}
		state.Files[name] = d.digest()
		return f.Commit()
	}
	for _, file := range []struct {
		name    string
		content func(io.Writer) error
	}{
		{modelFile, func(w io.Writer) error { return safetensors.Write(w, modelTensors, nil) }},
		{optimizerFile, func(w io.Writer) error { return safetensors.Write(w, optimizerTensors, nil) }},
		{configFile, func(w io.Writer) error {
			cfg.Resume = ""
			data, err := yaml.Marshal(cfg)
			if err != nil {
				return err
			}
			_, err = w.Write(data)
			return err
		}},
	} {
		if err := write(file.name, file.content); err != nil {
			return "", err
		}
	}
	data, err := json.MarshalIndent(state, "", "  ")
	if err != nil {
		return "", err
	}
	if err := atomicfile.WriteFile(filepath.Join(tmp, stateFile), append(data, '\n')); err != nil {
		return "", err
	}
	if err := atomicfile.RenameDir(tmp, dir); err != nil {
		return "", err
	}
	return dir, atomicfile.WriteFile(filepath.Join(root, latestFile), []byte(name+"\n"))
}

// prune keeps the newest keep checkpoints up to the step that was just saved.
// Later ones are of a future that the run has left: they were unsound when it
// was resumed.
func prune(output string, saved int64, keep int) error {
	names, err := checkpointNames(output)
	if err != nil {
		return err
	}
	last, _ := slices.BinarySearchFunc(names, stepName(saved), compareSteps)
	remove := names[last+1:]
	if keep > 0 && last+1 > keep {
		remove = append(slices.Clone(remove), names[:last+1-keep]...)
	}
	for _, name := range remove {
		if err := os.RemoveAll(filepath.Join(output, checkpointsDir, name)); err != nil {
			return fmt.Errorf("train: remove old checkpoint: %w", err)
		}
	}
	return nil
}
