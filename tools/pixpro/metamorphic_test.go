package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-436d2970/pixpro/internal/atomicfile"
	"github.com/seed-436d2970/pixpro/internal/synth"
	"github.com/seed-436d2970/pixpro/shards"
	"github.com/seed-436d2970/pixpro/train/checkpoint"
)

// TestMetamorphic makes random sequences of what happens to datasets, streams
// and runs (stops, kills, resumes, damage, other settings of what may change)
// under random options, and compares what comes out with a simple model: what
// one undisturbed run of the same options gives, which is itself compared with
// the images.
//
// PIXPRO_METAMORPHIC is the number of sequences, PIXPRO_METAMORPHIC_SEED the seed
// of the first. A sequence that fails is made shorter while it still fails, and
// printed.
func TestMetamorphic(t *testing.T) {
	count, seed := 24, uint64(time.Now().UnixNano())
	if testing.Short() {
		count = 6
	}
	if n, err := strconv.Atoi(os.Getenv("PIXPRO_METAMORPHIC")); err == nil {
		count = n
	}
	if n, err := strconv.ParseUint(os.Getenv("PIXPRO_METAMORPHIC_SEED"), 10, 64); err == nil {
		seed = n
	}
	w := newWorld(t)
	t.Logf("%d sequences from PIXPRO_METAMORPHIC_SEED=%d", count, seed)
	var (
		next   atomic.Int64
		failed atomic.Bool
		wg     sync.WaitGroup
	)
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for n := next.Add(1) - 1; n < int64(count) && !failed.Load(); n = next.Add(1) - 1 {
				if err := w.try(seed + uint64(n)); err != nil {
					failed.Store(true)
					t.Errorf("PIXPRO_METAMORPHIC=1 PIXPRO_METAMORPHIC_SEED=%d: %v", seed+uint64(n), err)
				}
			}
		})
	}
	wg.Wait()
	t.Log(w.counts())
}

// world is what all sequences share.
type world struct {
	ctx    context.Context
	root   string
	images []pictures

	mu      sync.Mutex
	unbroke map[string]func() (any, error) // outcomes without disturbance, by their options
	done    map[string]int                 // what was done, how often
}

// pictures are images to shard, some of them damaged.
type pictures struct {
	dir     string
	sound   map[string][]byte // by key
	damaged map[string][]byte // with a header, but not all of their pixels
}

// subject is one kind of thing that a sequence happens to.
type subject interface {
	// String says what it is, with its options.
	String() string
	// operations are what may happen to it, in random order and number.
	operations(rng *rand.Rand) []operation
	// begin makes a new one in a folder.
	begin(w *world, dir string) (state, error)
}

// state is a subject in a folder.
type state interface {
	// apply lets something happen and checks what must hold always.
	apply(op operation) error
	// end completes it and compares it with the model.
	end() error
}

// operation is something that happens, with a number that says when or where.
type operation struct {
	name string
	n    int
}

func (o operation) String() string { return fmt.Sprintf("%s %d", o.name, o.n) }

func newWorld(t *testing.T) *world {
	w := &world{ctx: t.Context(), root: t.TempDir(), unbroke: map[string]func() (any, error){}, done: map[string]int{}}
	for i, size := range []int{14, 23, 31} {
		p := pictures{dir: filepath.Join(w.root, fmt.Sprintf("images%d", i)), sound: map[string][]byte{}, damaged: map[string][]byte{}}
		if err := synth.Generate(t.Context(), p.dir, synth.Options{Images: size, Seed: uint64(i), MinSide: 36, MaxSide: 60}); err != nil {
			t.Fatal(err)
		}
		paths, err := filepath.Glob(filepath.Join(p.dir, "*", "*"))
		if err != nil {
			t.Fatal(err)
		}
		for j, path := range paths {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			key, err := filepath.Rel(p.dir, path)
			if err != nil {
				t.Fatal(err)
			}
			into := p.sound
			if i > 0 && j%9 == 4 {
				data, into = data[:len(data)/2], p.damaged
				if err := os.WriteFile(path, data, 0o666); err != nil {
					t.Fatal(err)
				}
			}
			into[filepath.ToSlash(key)] = data
		}
		w.images = append(w.images, p)
	}
	return w
}

// try makes the sequence of a seed, and a shorter one if that fails.
func (w *world) try(seed uint64) error {
	rng := rand.New(rand.NewPCG(seed, 0))
	var s subject
	switch seed % 3 {
	case 0:
		s = randomSharding(w, rng)
	case 1:
		s = randomStream(w, rng)
	default:
		s = randomTraining(w, rng)
	}
	ops := s.operations(rng)
	err := w.run(s, ops)
	if err == nil {
		return nil
	}
	for i := 0; i < len(ops); {
		shorter := slices.Delete(slices.Clone(ops), i, i+1)
		if e := w.run(s, shorter); e != nil {
			ops, err = shorter, e
		} else {
			i++
		}
	}
	return fmt.Errorf("%v\n  after %v\n  %w", s, ops, err)
}

// run makes a sequence in a folder of its own.
func (w *world) run(s subject, ops []operation) (err error) {
	dir, err := os.MkdirTemp(w.root, "sequence")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	state, err := s.begin(w, dir)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	for i, op := range ops {
		if err := state.apply(op); err != nil {
			return fmt.Errorf("operation %d, %v: %w", i, op, err)
		}
		w.count(op.name)
	}
	if err := state.end(); err != nil {
		return fmt.Errorf("end: %w", err)
	}
	w.count("sequences")
	return nil
}

func (w *world) count(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done[what]++
}

func (w *world) counts() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(w.done)) {
		fmt.Fprintf(&b, "%d %s, ", w.done[name], name)
	}
	return strings.TrimSuffix(b.String(), ", ")
}

// undisturbed is the outcome of options, which find computes once.
func undisturbed[T any](w *world, options string, find func(dir string) (T, error)) (T, error) {
	w.mu.Lock()
	once, ok := w.unbroke[options]
	if !ok {
		once = sync.OnceValues(func() (any, error) {
			dir, err := os.MkdirTemp(w.root, "undisturbed")
			if err != nil {
				return nil, err
			}
			return find(dir)
		})
		w.unbroke[options] = once
	}
	w.mu.Unlock()
	v, err := once()
	if err != nil {
		var none T
		return none, fmt.Errorf("undisturbed: %w", err)
	}
	return v.(T), nil
}

// dieAt, in the environment of asProgram, is the number of the operation on files
// at which the process kills itself.
const dieAt = "PIXPRO_TEST_DIE_AT"

// killed runs a command line in a process that kills itself at an operation on
// files, and says whether it came to that.
func (w *world) killed(at int, args []string) (bool, error) {
	cmd := exec.CommandContext(w.ctx, os.Args[0], append(args, "--log-level", "error")...)
	cmd.Env = append(os.Environ(), asProgram+"=1", fmt.Sprintf("%s=%d", dieAt, at))
	var said bytes.Buffer
	cmd.Stderr = &said
	err := cmd.Run()
	if err != nil && (cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != diedCode) {
		return false, fmt.Errorf("%v: %w: %s", args, err, said.String())
	}
	if err != nil {
		w.count("processes killed")
	}
	return err != nil, nil
}

// diedCode is the exit code of a process that ended itself without ado, as a
// signal would, but on every system.
const diedCode = 77

// dying is the system's file system until an operation at which the process ends.
type dying struct {
	atomicfile.FS
	left atomic.Int64
}

func (d *dying) step() {
	if d.left.Add(-1) == 0 {
		os.Exit(diedCode)
	}
}

func (d *dying) Create(path string) (atomicfile.Handle, error) {
	d.step()
	h, err := d.FS.Create(path)
	return dyingHandle{h, d}, err
}
func (d *dying) Append(path string) (atomicfile.Handle, error) {
	d.step()
	h, err := d.FS.Append(path)
	return dyingHandle{h, d}, err
}
func (d *dying) Rename(from, to string) error { d.step(); return d.FS.Rename(from, to) }
func (d *dying) Remove(path string) error     { d.step(); return d.FS.Remove(path) }
func (d *dying) RemoveAll(path string) error  { d.step(); return d.FS.RemoveAll(path) }
func (d *dying) MkdirAll(path string) error   { d.step(); return d.FS.MkdirAll(path) }
func (d *dying) SyncDir(path string) error    { d.step(); return d.FS.SyncDir(path) }

type dyingHandle struct {
	atomicfile.Handle
	fs *dying
}

// Write writes half where the process ends meanwhile.
func (h dyingHandle) Write(p []byte) (int, error) {
	if h.fs.left.Load() == 1 {
		_, _ = h.Handle.Write(p[:len(p)/2])
	}
	h.fs.step()
	return h.Handle.Write(p)
}
func (h dyingHandle) Sync() error  { h.fs.step(); return h.Handle.Sync() }
func (h dyingHandle) Close() error { h.fs.step(); return h.Handle.Close() }

// dieOnFiles makes this process end itself at the given operation on files.
func dieOnFiles(at int64) {
	d := &dying{FS: atomicfile.OS}
	d.left.Store(at)
	atomicfile.OS, checkpoint.OS = d, d
}

// sharding makes a dataset of a folder of images.
type sharding struct {
	pictures int
	size     int64
	order    shards.Order
	seed     uint64
	check    shards.Check
}

func randomSharding(w *world, rng *rand.Rand) sharding {
	s := sharding{pictures: rng.IntN(len(w.images)), size: 1 << (10 + rng.IntN(6)), order: shards.OrderPath, check: shards.CheckHeader}
	if rng.IntN(2) == 0 {
		s.order, s.seed = shards.OrderShuffle, rng.Uint64N(3)
	}
	if rng.IntN(2) == 0 {
		s.check = shards.CheckDecode
	}
	return s
}

func (s sharding) String() string {
	return fmt.Sprintf("sharding images%d, shards of %d bytes, order %s, seed %d, check %s", s.pictures, s.size, s.order, s.seed, s.check)
}

func (s sharding) config(w *world, out string) shards.WriteConfig {
	return shards.WriteConfig{In: w.images[s.pictures].dir, Out: out, ShardSize: s.size, Order: s.order, Seed: s.seed, Check: s.check, MaxBad: 1}
}

func (s sharding) operations(rng *rand.Rand) []operation {
	var ops []operation
	for range rng.IntN(6) {
		switch rng.IntN(5) {
		case 0, 1:
			ops = append(ops, operation{"shard: stop", 1 + rng.IntN(35)})
		case 2, 3:
			ops = append(ops, operation{"shard: kill", 1 + rng.IntN(60)})
		case 4:
			ops = append(ops, operation{"shard: damage", rng.IntN(1 << 16)})
		}
	}
	return ops
}

// result makes the dataset without disturbance, and compares it with the images.
func (s sharding) result(w *world) (map[string]string, error) {
	return undisturbed(w, s.String(), func(dir string) (map[string]string, error) {
		out := filepath.Join(dir, "out")
		if _, _, err := shards.Write(w.ctx, s.config(w, out)); err != nil {
			return nil, err
		}
		if err := s.compare(w, out); err != nil {
			return nil, err
		}
		return folderContents(out)
	})
}

// compare compares a dataset with the images that it was made of.
func (s sharding) compare(w *world, out string) error {
	p := w.images[s.pictures]
	want := maps.Clone(p.sound)
	if s.check == shards.CheckHeader {
		maps.Copy(want, p.damaged)
	}
	report, err := shards.Verify(w.ctx, out, shards.VerifyConfig{})
	if err != nil || len(report.Faults) > 0 {
		return fmt.Errorf("verify: %v, %v", report.Faults, err)
	}
	d, err := shards.Open(out)
	if err != nil {
		return err
	}
	defer d.Close()
	last := ""
	for i := range d.Len() {
		row, err := d.Sample(i)
		if err != nil {
			return err
		}
		class, _, _ := strings.Cut(row.Key, "/")
		if !bytes.Equal(want[row.Key], row.Image) || d.Classes()[row.Label] != class {
			return fmt.Errorf("row %d is %s of class %d with %d bytes, not the image of that name", i, row.Key, row.Label, len(row.Image))
		}
		if s.order == shards.OrderPath && row.Key <= last {
			return fmt.Errorf("%s comes after %s", row.Key, last)
		}
		last = row.Key
		delete(want, row.Key)
	}
	if len(want) > 0 {
		return fmt.Errorf("%d images are missing, such as %s", len(want), slices.Sorted(maps.Keys(want))[0])
	}
	return nil
}

func (s sharding) begin(w *world, dir string) (state, error) {
	want, err := s.result(w)
	return &shardingState{sharding: s, w: w, out: filepath.Join(dir, "out"), want: want, torn: map[string]string{}}, err
}

type shardingState struct {
	sharding
	w    *world
	out  string
	want map[string]string
	torn map[string]string // shards that were damaged, until a run gets to them
}

func (s *shardingState) apply(op operation) error {
	cfg := s.config(s.w, s.out)
	cfg.Resume, cfg.Workers = true, 1+op.n%3
	switch op.name {
	case "shard: stop":
		ctx, cancel := context.WithCancel(s.w.ctx)
		defer cancel()
		cfg.Listener = func(e shards.Event) {
			if p, ok := e.(shards.WriteProgress); ok && p.Files >= int64(op.n) {
				cancel()
			}
		}
		if _, _, err := shards.Write(ctx, cfg); err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
	case "shard: kill":
		args := []string{
			"shard", "--in", cfg.In, "--out", cfg.Out, "--shard-size", fmt.Sprintf("%dB", cfg.ShardSize), "--order", string(cfg.Order),
			"--check", string(cfg.Check), "--max-bad", "100%", "--resume", "--workers", fmt.Sprint(cfg.Workers),
		}
		if cfg.Seed > 0 {
			args = append(args, "--seed", fmt.Sprint(cfg.Seed))
		}
		if _, err := s.w.killed(op.n, args); err != nil {
			return err
		}
	case "shard: damage": // a byte of a finished shard, of a dataset that is not finished
		if _, err := os.Stat(filepath.Join(s.out, "manifest.json")); err == nil {
			return nil
		}
		paths, err := filepath.Glob(filepath.Join(s.out, "shard-*.arrow"))
		if err != nil || len(paths) == 0 {
			return err
		}
		path := paths[op.n%len(paths)]
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		data[op.n%len(data)] ^= 1
		s.torn[filepath.Base(path)] = string(data)
		return os.WriteFile(path, data, 0o666)
	}
	// What has a final name is whole.
	got, err := folderContents(s.out)
	if err != nil {
		return err
	}
	for name, content := range got {
		if name != "sharding.json" && name != "rejected.jsonl" && s.want[name] != content && s.torn[name] != content {
			return fmt.Errorf("%s is not what it should become", name)
		}
	}
	return nil
}

func (s *shardingState) end() error {
	cfg := s.config(s.w, s.out)
	cfg.Resume = true
	if _, _, err := shards.Write(s.w.ctx, cfg); err != nil {
		return err
	}
	got, err := folderContents(s.out)
	if diff := cmp.Diff(s.want, got); err != nil || diff != "" {
		return fmt.Errorf("%v (-undisturbed +disturbed):\n%s", err, diff)
	}
	return nil
}

// folderContents are the files of a folder, but for those that are not finished
// and the lock's.
func folderContents(dir string) (map[string]string, error) {
	files := map[string]string{}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return files, nil
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), atomicfile.TempSuffix) || strings.HasPrefix(e.Name(), ".pixpro") {
			continue
		}
		data, readErr := os.ReadFile(filepath.Join(dir, e.Name()))
		err = errors.Join(err, readErr)
		files[e.Name()] = string(data)
	}
	return files, err
}
