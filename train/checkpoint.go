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
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"

	"github.com/seed-436d2970/pixpro/augment"
	"github.com/seed-436d2970/pixpro/internal/atomicfile"
	"github.com/seed-436d2970/pixpro/pipeline"
	"github.com/seed-436d2970/pixpro/train/safetensors"
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

	stateFormat = 2
)

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

// versions describes this program.
func versions(device string) Versions {
	v := Versions{PixPro: "unknown", Go: runtime.Version(), Device: device}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		v.PixPro = info.Main.Version
	}
	return v
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
		name, err := latest(path)
		if err != nil {
			return nil, fmt.Errorf("train: %w", err)
		}
		path = filepath.Join(path, checkpointsDir, name)
	}
	c := &Checkpoint{Dir: path}
	if err := c.read(); err != nil {
		return nil, fmt.Errorf("train: checkpoint %s: %w", path, err)
	}
	return c, nil
}

// latest is the name of a training output's latest checkpoint: of the newest
// where a run was killed just before it could note that.
func latest(output string) (string, error) {
	text, err := os.ReadFile(filepath.Join(output, checkpointsDir, latestFile))
	if err == nil {
		return filepath.Base(strings.TrimSpace(string(text))), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	names, err := checkpointNames(output)
	if err == nil && len(names) == 0 {
		err = fmt.Errorf("%w: %s has no finished checkpoint", ErrCheckpoint, output)
	}
	if err != nil {
		return "", err
	}
	return names[len(names)-1], nil
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
		return fmt.Errorf("%w: %s has format %d: it is damaged, or of a newer version than this, which reads %d", ErrCheckpoint, stateFile, c.State.Format, stateFormat)
	}
	if sum, err := c.State.sum(); err != nil || sum != c.State.Sum {
		return errors.Join(fmt.Errorf("%w: %s has SHA-256 %s, was written with %s", ErrCheckpoint, stateFile, sum, c.State.Sum), err)
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
		digits, ok := strings.CutPrefix(e.Name(), stepPrefix)
		step, err := strconv.ParseInt(digits, 10, 64)
		if ok && err == nil && e.IsDir() && e.Name() == stepName(step) {
			names = append(names, e.Name()) // others are somebody's copies
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

// contents are what a checkpoint's folder holds.
type contents struct {
	state            State
	config           Config
	model, optimizer []safetensors.Tensor
}

// checkFinite looks for parameters that are not finite.
func (c *contents) checkFinite() error {
	for _, t := range c.model {
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

// save writes a checkpoint and makes it the latest. A failed save leaves what
// was there.
func save(files atomicfile.FS, output string, c contents) (dir string, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("train: save checkpoint of step %d in %s: %w", c.state.Step, output, err)
		}
	}()
	root := filepath.Join(output, checkpointsDir)
	if err := removeTemporary(files, root); err != nil {
		return "", err
	}
	name := stepName(c.state.Step)
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
	return dir, noteLatest(files, root, name)
}

// noteLatest makes the checkpoint of that name the latest.
func noteLatest(files atomicfile.FS, root, name string) error {
	return atomicfile.WriteFileOn(files, filepath.Join(root, latestFile), []byte(name+"\n"))
}

// removeTemporary removes what killed or failed saves left.
func removeTemporary(files atomicfile.FS, root string) error {
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
func writeContents(files atomicfile.FS, dir string, c contents) error {
	config := c.config
	config.Resume = ""
	settings, err := yaml.Marshal(config)
	if err != nil {
		return err
	}
	c.state.Format, c.state.Files = stateFormat, map[string]Digest{}
	for _, file := range []struct {
		name    string
		content func(io.Writer) error
	}{
		{modelFile, func(w io.Writer) error { return safetensors.Write(w, c.model, nil) }},
		{optimizerFile, func(w io.Writer) error { return safetensors.Write(w, c.optimizer, nil) }},
		{configFile, func(w io.Writer) error { _, err := w.Write(settings); return err }},
	} {
		if c.state.Files[file.name], err = writeDigested(files, filepath.Join(dir, file.name), file.content); err != nil {
			return err
		}
	}
	if c.state.Sum, err = c.state.sum(); err != nil {
		return err
	}
	data, err := json.MarshalIndent(c.state, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.WriteFileOn(files, filepath.Join(dir, stateFile), append(data, '\n'))
}

func writeDigested(files atomicfile.FS, path string, content func(io.Writer) error) (Digest, error) {
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

// prune removes all but the newest keep checkpoints of a run that has come to
// step. Later ones are damaged, having been passed over: they do not count,
// and stay for whoever wants to look at them until the run comes there.
func prune(files atomicfile.FS, output string, keep int, step int64) error {
	names, err := checkpointNames(output)
	if err != nil || keep == 0 {
		return err
	}
	names = slices.DeleteFunc(names, func(name string) bool { return compareSteps(name, stepName(step)) > 0 })
	for _, name := range names[:max(0, len(names)-keep)] {
		if err := files.RemoveAll(filepath.Join(output, checkpointsDir, name)); err != nil {
			return fmt.Errorf("train: remove old checkpoint: %w", err)
		}
	}
	return nil
}
