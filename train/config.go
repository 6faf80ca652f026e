package train

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seed-436d2970/pixpro/pipeline"
	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/model"
	"github.com/seed-436d2970/pixpro/train/objective"
	"github.com/seed-436d2970/pixpro/train/optim"
	"go.yaml.in/yaml/v3"
)

// Config is everything that decides a training run. The YAML names are those
// of the flags of "pixpro train"; where the published implementation has such
// an option, they are its names.
type Config struct {
	Shards string `yaml:"shards"` // folder of shards
	Output string `yaml:"output"` // folder for checkpoints and metrics.jsonl
	// Resume is "" (start anew, refuse a folder with checkpoints), "auto"
	// (continue from the newest sound checkpoint, if there is one), or the path
	// of a checkpoint or of a training output.
	Resume string `yaml:"resume,omitempty"`
	// Init is a checkpoint or a file of weights that a new run starts from: see
	// ReadWeights.
	Init string `yaml:"init,omitempty"`

	Arch   string  `yaml:"arch"`   // see model.Lookup
	Stem   string  `yaml:"stem"`   // imagenet, nopool, small: see model.Stem…
	Width  float64 `yaml:"width"`  // factor of all the encoder's channels
	Method string  `yaml:"method"` // pixpro, pixcontrast, instance

	Size      int `yaml:"size"`  // side of a view in pixels
	BatchSize int `yaml:"batch"` // pairs a batch
	// Accumulate is the number of batches whose gradients make one step. Batch
	// norms see one batch at a time.
	Accumulate int     `yaml:"accumulate"`
	Epochs     int     `yaml:"epochs"`
	Seed       uint64  `yaml:"seed"`
	Recipe     string  `yaml:"recipe"` // of the augmentation
	Crop       float64 `yaml:"crop"`   // least part of the image that a crop covers, 0 for the recipe's

	BaseLR       float64 `yaml:"base-lr"` // for 256 pairs a step; the rate is this * batch * accumulate / 256
	WeightDecay  float64 `yaml:"weight-decay"`
	WarmupEpochs int     `yaml:"warmup-epoch"`
	Optimizer    string  `yaml:"optimizer"` // lars, sgd
	Momentum     float64 `yaml:"momentum"`
	// LRScheduler is cosine, or step: at LRDecayEpochs times LRDecayRate.
	LRScheduler   string  `yaml:"lr-scheduler"`
	LRDecayEpochs []int   `yaml:"lr-decay-epochs,flow"`
	LRDecayRate   float64 `yaml:"lr-decay-rate"`

	HeadHidden           int     `yaml:"head-hidden"` // channels inside a projection head
	HeadDim              int     `yaml:"head-dim"`    // channels of a projection
	PixProGamma          float64 `yaml:"pixpro-p"`    // exponent of the propagation module
	PixProMomentum       float64 `yaml:"pixpro-momentum"`
	PixProPositiveRatio  float64 `yaml:"pixpro-pos-ratio"`
	PixProClamp          float64 `yaml:"pixpro-clamp-value"`
	PixProTransformLayer int     `yaml:"pixpro-transform-layer"`
	PixContrastTau       float64 `yaml:"pixcontrast-tau"`

	Instance       string  `yaml:"instance"` // none, byol, simclr: loss of whole images
	InstanceWeight float64 `yaml:"pixpro-ins-loss-weight"`
	InstanceTau    float64 `yaml:"instance-tau"` // temperature of simclr

	Device    string `yaml:"device,omitempty"`    // cpu, cuda, cuda:N, auto: what computes
	Precision string `yaml:"precision,omitempty"` // fp32, tf32, bf16; the latter two on cuda only

	SaveEvery Interval `yaml:"save-every"`
	Keep      int      `yaml:"keep"` // checkpoints that are kept, 0 for all
}

// Default is the paper's setting for PixPro, with a batch for one machine.
func Default() Config {
	return Config{
		Arch: "resnet50", Stem: model.StemImageNet, Width: 1, Method: model.PixPro,
		Size: 224, BatchSize: 64, Accumulate: 1, Epochs: 100, Recipe: "byol",
		BaseLR: 1, WeightDecay: 1e-5, WarmupEpochs: 5, Optimizer: optim.LARS, Momentum: 0.9,
		LRScheduler: cosineSchedule, LRDecayEpochs: []int{120, 160, 200}, LRDecayRate: 0.1,
		HeadHidden: 4096, HeadDim: 256,
		PixProGamma: 2, PixProMomentum: 0.99, PixProPositiveRatio: 0.7, PixProTransformLayer: 1,
		PixContrastTau: 0.3, Instance: model.NoInstance, InstanceWeight: 1, InstanceTau: 0.2,
		Device: "cpu", Precision: "fp32", SaveEvery: Interval{Epochs: 1}, Keep: 3,
	}
}

// Validate says which field cannot be used and what it may be.
func (c *Config) Validate() error {
	encoder, err := model.Lookup(c.Arch, c.Stem, c.Width)
	if err != nil {
		return fmt.Errorf("train: %w", err)
	}
	modelConfig, objectiveConfig, optimizerConfig := c.model(encoder), c.objective(), c.optimizer()
	switch {
	case c.Output == "":
		err = errors.New("no output folder: give output")
	case c.Size < encoder.Stride():
		err = fmt.Errorf("size %d: with the %s stem a cell is %d pixels wide; use at least one", c.Size, c.Stem, encoder.Stride())
	case encoder.Deep && c.Size%encoder.Stride() != 0:
		err = fmt.Errorf("size %d: architectures with a deep stem want a multiple of %d", c.Size, encoder.Stride())
	case c.Size > pipeline.MaxSize:
		err = fmt.Errorf("size %d: use up to %d", c.Size, pipeline.MaxSize)
	case c.BatchSize < 1:
		err = fmt.Errorf("batch %d: must be positive", c.BatchSize)
	case c.Accumulate < 1:
		err = fmt.Errorf("accumulate %d: must be positive", c.Accumulate)
	case c.Epochs < 1:
		err = fmt.Errorf("epochs %d: must be positive", c.Epochs)
	case !(c.Crop >= 0 && c.Crop <= 1):
		err = fmt.Errorf("crop %g: must be above 0 and at most 1, or 0 for the recipe's", c.Crop)
	case !(c.BaseLR >= 0 && c.BaseLR <= math.MaxFloat32):
		err = fmt.Errorf("base-lr %g: must be a number that is not negative", c.BaseLR)
	case c.LRScheduler != cosineSchedule && c.LRScheduler != stepSchedule:
		err = fmt.Errorf("lr-scheduler %q: use cosine or step", c.LRScheduler)
	case c.LRScheduler == stepSchedule && (len(c.LRDecayEpochs) == 0 || !slices.IsSorted(c.LRDecayEpochs)):
		err = fmt.Errorf("lr-decay-epochs %v: name at least one epoch, in order", c.LRDecayEpochs)
	case !(c.LRDecayRate > 0 && c.LRDecayRate <= 1):
		err = fmt.Errorf("lr-decay-rate %g: must be above 0 and at most 1", c.LRDecayRate)
	case c.WarmupEpochs < 0:
		err = fmt.Errorf("warmup-epoch %d: must not be negative", c.WarmupEpochs)
	case !(c.PixProMomentum >= 0 && c.PixProMomentum <= 1):
		err = fmt.Errorf("pixpro-momentum %g: must be in [0, 1]", c.PixProMomentum)
	case c.Keep < 0:
		err = fmt.Errorf("keep %d: must not be negative", c.Keep)
	default:
		err = errors.Join(modelConfig.Validate(), objectiveConfig.Validate(), optimizerConfig.Validate())
	}
	if err != nil {
		return fmt.Errorf("train: %w", err)
	}
	return nil
}

func (c *Config) model(encoder model.ResNet) model.Config {
	return model.Config{
		Encoder: encoder, Method: c.Method, Hidden: c.HeadHidden, Dim: c.HeadDim, Seed: c.Seed,
		Propagation:     device.Propagation{Gamma: c.PixProGamma, Clamp: c.PixProClamp},
		TransformLayers: c.PixProTransformLayer, Instance: c.Instance,
	}
}

func (c *Config) objective() objective.Config {
	return objective.Config{
		Method: c.Method, PositiveRatio: c.PixProPositiveRatio, Temperature: c.PixContrastTau,
		Instance: c.Instance, InstanceWeight: c.InstanceWeight, InstanceTemperature: c.InstanceTau,
	}
}

// The values of LRScheduler.
const (
	cosineSchedule = "cosine"
	stepSchedule   = "step"
)

func (c *Config) optimizer() optim.Config {
	return optim.Config{Kind: c.Optimizer, Momentum: c.Momentum, WeightDecay: c.WeightDecay}
}

// TotalSteps is the number of steps of the whole run.
func (c *Config) TotalSteps(batchesPerEpoch int64) int64 {
	return int64(c.Epochs) * batchesPerEpoch / int64(c.Accumulate)
}

func (c *Config) schedule(batchesPerEpoch int64) optim.Schedule {
	s := optim.Schedule{
		Base:          c.BaseLR * float64(c.BatchSize*c.Accumulate) / 256,
		StepsPerEpoch: max(1, batchesPerEpoch/int64(c.Accumulate)), Epochs: c.Epochs, WarmupEpochs: c.WarmupEpochs,
	}
	if c.LRScheduler == stepSchedule {
		s.DecayEpochs, s.DecayRate = c.LRDecayEpochs, c.LRDecayRate
	}
	return s
}

// differences lists the fields in which a run that goes on from a checkpoint
// of another may not differ, because its samples or parameters would: all but
// epochs, what concerns checkpoints, the device and its precision, which are
// warned of, and the recipe with its crop, whose contents checkSource compares.
func (c *Config) differences(saved *Config) []string {
	var list []string
	for _, f := range []struct {
		name      string
		was, asks any
	}{
		{"arch", saved.Arch, c.Arch}, {"stem", saved.Stem, c.Stem}, {"width", saved.Width, c.Width},
		{"method", saved.Method, c.Method}, {"size", saved.Size, c.Size}, {"batch", saved.BatchSize, c.BatchSize}, {"accumulate", saved.Accumulate, c.Accumulate},
		{"seed", saved.Seed, c.Seed},
		{"head-hidden", saved.HeadHidden, c.HeadHidden}, {"head-dim", saved.HeadDim, c.HeadDim},
		{"pixpro-transform-layer", saved.PixProTransformLayer, c.PixProTransformLayer}, {"instance", saved.Instance, c.Instance},
		{"base-lr", saved.BaseLR, c.BaseLR}, {"weight-decay", saved.WeightDecay, c.WeightDecay}, {"warmup-epoch", saved.WarmupEpochs, c.WarmupEpochs},
		{"optimizer", saved.Optimizer, c.Optimizer}, {"momentum", saved.Momentum, c.Momentum}, {"lr-scheduler", saved.LRScheduler, c.LRScheduler},
		{"lr-decay-epochs", fmt.Sprint(saved.LRDecayEpochs), fmt.Sprint(c.LRDecayEpochs)}, {"lr-decay-rate", saved.LRDecayRate, c.LRDecayRate},
		{"pixpro-p", saved.PixProGamma, c.PixProGamma}, {"pixpro-momentum", saved.PixProMomentum, c.PixProMomentum},
		{"pixpro-pos-ratio", saved.PixProPositiveRatio, c.PixProPositiveRatio}, {"pixpro-clamp-value", saved.PixProClamp, c.PixProClamp},
		{"pixcontrast-tau", saved.PixContrastTau, c.PixContrastTau}, {"pixpro-ins-loss-weight", saved.InstanceWeight, c.InstanceWeight},
		{"instance-tau", saved.InstanceTau, c.InstanceTau},
	} {
		if f.was != f.asks {
			list = append(list, fmt.Sprintf("%s was %v, not %v", f.name, f.was, f.asks))
		}
	}
	return list
}

// ReadConfig reads a YAML file over the fields of c; unknown names are errors.
func (c *Config) ReadConfig(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("train: configuration: %w", err)
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	if err := dec.Decode(c); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("train: configuration %s: %w", path, err)
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("train: configuration %s: a second document follows the first", path)
	}
	return nil
}

// Interval is a distance between checkpoints: one of its fields, or none for
// only the last one.
type Interval struct {
	Time   time.Duration
	Steps  int64
	Epochs int64
}

// ParseInterval reads "10m" and other durations, "1000steps", "1epoch" or "end".
func ParseInterval(s string) (Interval, error) {
	bad := fmt.Errorf("interval %q: use a duration such as 10m, or 1000steps, 1epoch, end", s)
	for _, unit := range []string{"steps", "step", "epochs", "epoch"} {
		number, ok := strings.CutSuffix(s, unit)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
		if err != nil || n < 1 {
			return Interval{}, bad
		}
		if strings.HasPrefix(unit, "step") {
			return Interval{Steps: n}, nil
		}
		return Interval{Epochs: n}, nil
	}
	if s == "end" {
		return Interval{}, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return Interval{}, bad
	}
	return Interval{Time: d}, nil
}

func (i Interval) String() string {
	switch {
	case i.Time > 0:
		return i.Time.String()
	case i.Steps > 0:
		return fmt.Sprintf("%dsteps", i.Steps)
	case i.Epochs > 0:
		return fmt.Sprintf("%depochs", i.Epochs)
	}
	return "end"
}

// Set and Type make an Interval a command-line flag.
func (i *Interval) Set(s string) (err error) {
	*i, err = ParseInterval(s)
	return err
}

// Type implements pflag.Value.
func (i *Interval) Type() string { return "interval" }

// MarshalYAML implements yaml.Marshaler.
func (i Interval) MarshalYAML() (any, error) { return i.String(), nil }

// UnmarshalYAML implements yaml.Unmarshaler.
func (i *Interval) UnmarshalYAML(node *yaml.Node) error { return i.Set(node.Value) }
