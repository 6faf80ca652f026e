package options

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/seed-436d2970/pixpro/augment"
	"github.com/seed-436d2970/pixpro/augment/decode"
	"github.com/seed-436d2970/pixpro/pipeline"
	"github.com/seed-436d2970/pixpro/train/device"
	"github.com/seed-436d2970/pixpro/train/model"
	"github.com/seed-436d2970/pixpro/train/optim"
)

// Options is everything that decides a training run. Names of options are the
// published implementation's where it has them. Default fills all fields in.
// What only some methods have lies in sections of their own: see package method.
//
// A copy of an Options shares its sections: see Clone.
type Options struct {
	Shards string // folder of shards

	Size   int     // side of a view in pixels
	Recipe string  // of the augmentation: a name or a file, see augment.ReadRecipe
	Crop   float64 // least part of the image that a crop covers, 0 for the recipe's
	// Workers are the goroutines that decode and augment; 0 is one a core.
	Workers int
	// What decoding one image may take: see decode.Limits.
	MaxPixels     int
	MaxDecodeTime time.Duration

	Arch  string  // see model.Lookup
	Stem  string  // one of model.Stems
	Width float64 // factor of all the encoder's channels
	// Init is a checkpoint or a file of weights that a new run starts from.
	Init string

	Method              string  // one that is registered: see package method
	HeadHidden          int     // channels inside a projection head
	HeadDim             int     // channels of a projection
	PixProMomentum      float64 // first momentum of the key encoder, which rises to 1
	PixProPositiveRatio float64 // distance below which cells match, in diagonals of the larger cell

	BatchSize int // pairs a batch
	// Accumulate is the number of batches whose gradients make one step. Batch
	// norms see one batch at a time.
	Accumulate    int
	Epochs        int
	BaseLR        float64 // for 256 pairs a step; the rate is this * batch * accumulate / 256
	WeightDecay   float64
	WarmupEpochs  int
	Optimizer     string // optim.LARS or optim.SGD
	Momentum      float64
	LRScheduler   string // Cosine or Step
	LRDecayEpochs []int  // epochs after which Step multiplies the rate by LRDecayRate
	LRDecayRate   float64

	Output string // folder for checkpoints and metrics.jsonl
	// Resume is "" (start anew, refuse a folder with checkpoints), Auto (continue
	// from the newest sound checkpoint, if there is one), or the path of a
	// checkpoint or of a training output.
	Resume    string
	Seed      uint64
	Device    string // Auto, or a name that device.Lookup knows
	Precision device.Precision
	Threads   int           // that compute; 0 is one a core
	SaveEvery Interval      // distance between checkpoints
	Keep      int           // checkpoints that are kept, 0 for all
	Wait      time.Duration // for another run in Output to end

	sections []section
}

// Auto is the value of Resume that goes on where there is something to go on
// from, and of Device that takes a card where there is one.
const Auto = "auto"

// The values of LRScheduler.
const (
	Cosine = "cosine"
	Step   = "step"
)

// maxChannels keeps a mistyped width of a head from taking all memory.
const maxChannels = 1 << 16

// Default is the paper's setting for PixPro, with a batch for one machine.
func Default() Options {
	return Options{
		MaxPixels: decode.DefaultMaxPixels, MaxDecodeTime: decode.DefaultMaxTime,
		Size: 224, Recipe: "byol",
		Arch: "resnet50", Stem: model.StemImageNet, Width: 1,
		Method: "pixpro", HeadHidden: 4096, HeadDim: 256, PixProMomentum: 0.99, PixProPositiveRatio: 0.7,
		BatchSize: 64, Accumulate: 1, Epochs: 100,
		BaseLR: 1, WeightDecay: 1e-5, WarmupEpochs: 5, Optimizer: optim.LARS, Momentum: 0.9,
		LRScheduler: Cosine, LRDecayEpochs: []int{120, 160, 200}, LRDecayRate: 0.1,
		Device: "cpu", Precision: device.FP32, SaveEvery: Interval{Epochs: 1}, Keep: 3,
		sections: newSections(),
	}
}

// Rows is the table: all options of o in the order of help and docs.
func (o *Options) Rows() []Row {
	if o.sections == nil {
		o.sections = newSections()
	}
	rows := []Row{
		New("shards", &o.Shards, "folder of shards").In(Data).MayChange(),
		New("workers", &o.Workers, "goroutines that decode and augment (0: one a core)", AtLeast(0)).In(Data).NotSaved(),
		New("max-pixels", &o.MaxPixels, "larger images are bad, also such as take more than 4.5 bytes for each of these to decode", AtLeast(1)).In(Data),
		New("max-decode-time", &o.MaxDecodeTime, "images that take longer to decode are bad, by an estimate that is the same on all machines", AtLeast(time.Nanosecond)).In(Data),

		New("size", &o.Size, "side of a view in pixels", Within(1, pipeline.MaxSize)).In(Views),
		New("recipe", &o.Recipe, "augmentation: "+alternatives(augment.RecipeNames())+", or a JSON file", readableRecipe).In(Views).MayChange(),
		New("crop", &o.Crop, "least part of the image that a crop covers, 0 for the recipe's (byol: 0.08)", Within(0., 1)).In(Views).MayChange(),

		New("arch", &o.Arch, "resnet18 to resnet152, wide_resnet50_2, resnext101_32x8d; resnets also with _w2x, _16s, _d").In(Model),
		New("stem", &o.Stem, "imagenet (a cell is 32 pixels wide), nopool (16) or small (8)", OneOf(model.Stems()...)).In(Model),
		New("width", &o.Width, "factor of the encoder's channels").In(Model),
		New("init", &o.Init, "weights that a new run starts from: a checkpoint, torchvision's or the published .pth, or safetensors").In(Model).MayChange(),

		New("method", &o.Method, methodsHelp(), OneOf(Methods()...)),
		New("head-hidden", &o.HeadHidden, "channels inside a projection head", Within(1, maxChannels)),
		New("head-dim", &o.HeadDim, "channels of a projection", Within(1, maxChannels)),
		New("pixpro-momentum", &o.PixProMomentum, "first momentum of the key encoder, which rises to 1", Within(0., 1)),
		New("pixpro-pos-ratio", &o.PixProPositiveRatio, "distance below which cells match, in cell diagonals", Above(0)),
	}
	for _, s := range o.sections {
		rows = append(rows, s.Rows()...)
	}
	return append(rows,
		New("batch", &o.BatchSize, "pairs of views in a batch", AtLeast(1)).In(Optimiser),
		New("accumulate", &o.Accumulate, "batches whose gradients make one step", AtLeast(1)).In(Optimiser),
		New("epochs", &o.Epochs, "times that every image is drawn", AtLeast(1)).In(Optimiser).MayChange(),
		New("optimizer", &o.Optimizer, "lars or sgd", OneOf(optim.LARS, optim.SGD)).In(Optimiser),
		New("base-lr", &o.BaseLR, "learning rate for 256 pairs a step, scaled by --batch", Within(0, math.MaxFloat32)).In(Optimiser),
		New("momentum", &o.Momentum, "momentum of the optimiser, below 1", Fraction).In(Optimiser),
		New("weight-decay", &o.WeightDecay, "weight decay, not of biases and batch norms", AtLeast(0.)).In(Optimiser),
		New("warmup-epoch", &o.WarmupEpochs, "epochs in which the learning rate rises", AtLeast(0)).In(Optimiser),
		New("lr-scheduler", &o.LRScheduler, "learning rate after the warm-up: cosine or step", OneOf(Cosine, Step)).In(Optimiser),
		New("lr-decay-epochs", &o.LRDecayEpochs, "epochs after which the step schedule lowers the rate", ascending).In(Optimiser),
		New("lr-decay-rate", &o.LRDecayRate, "what it multiplies the rate by", Above(0), Within(0., 1)).In(Optimiser),

		New("output", &o.Output, "folder for checkpoints, metrics and the loss curve").In(Run).MayChange(),
		New("resume", &o.Resume, "auto (from the newest sound checkpoint in the output, if any), or a checkpoint's path").In(Run).NotSaved(),
		New("seed", &o.Seed, "seed of parameters, order and augmentation").In(Run),
		New("device", &o.Device, "what computes: cpu, cuda, cuda:N, or auto (a card if there is one)", knownDevice).In(Run).MayChange(),
		New("precision", &o.Precision, "fp32, or bf16 (half the memory for activations, faster where the device has products of it); on a card also tf32 (faster products alone)", OneOf(device.Precisions()...)).In(Run).MayChange(),
		New("threads", &o.Threads, "threads that compute (0: one a core)", AtLeast(0)).In(Run).NotSaved(),
		New("save-every", &o.SaveEvery, "distance between checkpoints: 10m, 1000steps, 1epoch, or end").In(Run).MayChange(),
		New("keep", &o.Keep, "checkpoints that are kept, 0 for all", AtLeast(0)).In(Run).MayChange(),
		New("wait", &o.Wait, "time to wait for another run in the output to end, such as 5m; otherwise it is an error", AtLeast[time.Duration](0)).In(Run).NotSaved(),
	)
}

func ascending(epochs []int) string {
	if slices.IsSorted(epochs) && (len(epochs) == 0 || epochs[0] >= 0) {
		return ""
	}
	return "must be epochs in order"
}

func readableRecipe(name string) string {
	if _, err := augment.ReadRecipe(name); err != nil {
		return strings.TrimPrefix(err.Error(), "augment: ")
	}
	return ""
}

func knownDevice(name string) string {
	if name == Auto {
		return ""
	}
	if _, _, err := device.Lookup(name); err != nil {
		return "use auto, " + strings.Join(device.Names(), ", ") + ", or NAME:N of several"
	}
	return ""
}

// Row is the row of an option's name.
func (o *Options) Row(name string) (Row, bool) {
	for _, r := range o.Rows() {
		if r.Name == name {
			return r, true
		}
	}
	return Row{}, false
}

// Set sets the option of a name to a value as it is written on a command line.
func (o *Options) Set(name, value string) error {
	r, ok := o.Row(name)
	if !ok {
		return fmt.Errorf("options: there is no option %q", name)
	}
	if err := r.Set(value); err != nil {
		return &Error{Name: name, Value: value, Want: err.Error()}
	}
	return nil
}

// Clone copies o with its sections.
func (o *Options) Clone() Options {
	c := *o
	c.sections = newSections()
	c.LRDecayEpochs = slices.Clone(o.LRDecayEpochs)
	to := c.Rows()
	for i, r := range o.Rows() {
		to[i].copyFrom(r)
	}
	return c
}

// Validate returns an *Error about the first option that cannot be used, by
// itself or beside others.
func (o *Options) Validate() error {
	for _, r := range o.Rows() {
		if err := r.Check(); err != nil {
			return err
		}
	}
	bad := func(name, format string, args ...any) error {
		r, _ := o.Row(name)
		return r.bad(fmt.Sprintf(format, args...))
	}
	if o.Output == "" {
		return bad("output", "name a folder for checkpoints and metrics")
	}
	encoder, err := o.Encoder()
	switch {
	case err != nil:
		return err
	case o.Size < encoder.Stride():
		return bad("size", "with the %s stem a cell is %d pixels wide; use at least one", o.Stem, encoder.Stride())
	case encoder.Deep && o.Size%encoder.Stride() != 0:
		return bad("size", "architectures with a deep stem want a multiple of %d", encoder.Stride())
	case o.LRScheduler == Step && len(o.LRDecayEpochs) == 0:
		return bad("lr-decay-epochs", "the step schedule needs at least one epoch")
	}
	if recipe, err := augment.ReadRecipe(o.Recipe); err == nil {
		if _, err := recipe.WithCropsFrom(o.Crop); err != nil {
			return bad("crop", "%s", strings.TrimPrefix(err.Error(), "augment: "))
		}
	}
	if o.Device != Auto { // which depends on what there is
		driver, _, err := device.Lookup(o.Device)
		if err != nil || !slices.Contains(driver.Precisions, o.Precision) {
			return bad("precision", "device %s computes in %s only", o.Device, alternatives(driver.Precisions))
		}
	}
	for _, s := range o.sections {
		if s.method != o.Method {
			continue
		}
		if v, ok := s.Section.(Validator); ok {
			if err := v.Validate(o); err != nil {
				return err
			}
		}
	}
	return nil
}

// Encoder is the architecture that the options name.
func (o *Options) Encoder() (model.ResNet, error) {
	encoder, err := model.Lookup(o.Arch, o.Stem, o.Width)
	if err == nil {
		return encoder, nil
	}
	name := "arch"
	if _, archErr := model.Lookup(o.Arch, model.StemImageNet, 1); archErr == nil {
		name = "width"
		if _, widthErr := model.Lookup(o.Arch, model.StemImageNet, o.Width); widthErr == nil {
			name = "stem"
		}
	}
	r, _ := o.Row(name)
	return encoder, r.bad(err.Error())
}

// ReadRecipe is the augmentation that the options name.
func (o *Options) ReadRecipe() (augment.Recipe, error) {
	recipe, err := augment.ReadRecipe(o.Recipe)
	if err != nil {
		return recipe, err
	}
	return recipe.WithCropsFrom(o.Crop)
}

// TotalSteps is the number of steps of the whole run.
func (o *Options) TotalSteps(batchesPerEpoch int64) int64 {
	return int64(o.Epochs) * batchesPerEpoch / int64(o.Accumulate)
}

// Schedule is the learning rate over the run.
func (o *Options) Schedule(batchesPerEpoch int64) optim.Schedule {
	s := optim.Schedule{
		Base:          o.BaseLR * float64(o.BatchSize*o.Accumulate) / 256,
		StepsPerEpoch: max(1, batchesPerEpoch/int64(o.Accumulate)), Epochs: o.Epochs, WarmupEpochs: o.WarmupEpochs,
	}
	if o.LRScheduler == Step {
		s.DecayEpochs, s.DecayRate = o.LRDecayEpochs, o.LRDecayRate
	}
	return s
}

// OptimizerConfig says how parameters move.
func (o *Options) OptimizerConfig() optim.Config {
	return optim.Config{Kind: o.Optimizer, Momentum: o.Momentum, WeightDecay: o.WeightDecay}
}

// Equal says whether both have the same values, those of Local options too.
func (o Options) Equal(other Options) bool {
	rows := other.Rows()
	for i, r := range o.Rows() {
		if !r.equal(rows[i]) {
			return false
		}
	}
	return true
}

// Differences lists the options in which a run that goes on from a checkpoint
// may not differ from the run that wrote it, because its samples or parameters
// would, and does.
func (o *Options) Differences(saved *Options) []string {
	var list []string
	was := saved.Rows()
	for i, r := range o.Rows() {
		if !r.Change && !r.equal(was[i]) {
			list = append(list, fmt.Sprintf("%s was %v, not %v", r.Name, was[i], r))
		}
	}
	return list
}
