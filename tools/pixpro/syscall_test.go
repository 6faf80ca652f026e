package main

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-436d2970/pixpro/internal/synth"
	"github.com/seed-436d2970/pixpro/train"
	"github.com/seed-436d2970/pixpro/train/checkpoint"
)

// injections are the system calls that fail, and how.
var injections = map[string][]string{
	"openat":     {"EIO", "EMFILE", "ENOSPC", "EINTR"},
	"read":       {"EIO", "EINTR"},
	"pread64":    {"EIO", "EINTR"},
	"mmap":       {"EIO", "ENOMEM", "EINTR"},
	"getdents64": {"EIO"},
	"newfstatat": {"EIO"},
	"fstat":      {"EIO"},
	"write":      {"EIO", "ENOSPC", "EINTR"},
	"fsync":      {"EIO", "ENOSPC", "EINTR"},
	"renameat":   {"EIO", "ENOSPC", "EINTR"},
	"mkdirat":    {"EIO", "ENOSPC"},
	"unlinkat":   {"EIO", "EINTR"},
	"flock":      {"EIO", "ENOLCK", "EINTR"},
	"close":      {"EIO"},
}

// TestSystemCallsFail runs the program under strace, which lets the n-th call of a
// kind fail that has to do with the program's own files. It ends well, or with a
// sentence; nothing is half-written; and the same command comes to the same end
// afterwards as if nothing had been.
//
// PIXPRO_SYSCALLS is the number of failures that are tried, spread over all there
// are, or "all".
func TestSystemCallsFail(t *testing.T) {
	if testing.Short() {
		t.Skip("it is the program that is tested, not its goroutines; make test runs it")
	}
	if runtime.GOOS != "linux" {
		t.Skip("strace is for Linux")
	}
	if text, err := exec.Command("strace", "-f", "-o", os.DevNull, "true").CombinedOutput(); err != nil {
		t.Skipf("strace does not run (%v: %s): install it, as by apt-get install strace, and allow it to trace", err, bytes.TrimSpace(text))
	}
	wanted := 60
	switch text := os.Getenv("PIXPRO_SYSCALLS"); {
	case text == "all":
		wanted = -1
	case text != "":
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		wanted = n
	}
	w := newFailing(t)
	var all []failure
	for i := range w.commands {
		all = append(all, w.failures(i)...)
	}
	chosen := all
	if wanted >= 0 && wanted < len(all) {
		chosen = nil
		for i := range wanted {
			chosen = append(chosen, all[i*len(all)/wanted])
		}
	}
	for _, f := range chosen {
		t.Run(f.String(), func(t *testing.T) {
			w.t = t
			w.try(f)
		})
	}
	w.t = t
	t.Logf("%d of %d failures tried; calls that failed: %v; %d runs went on, in %d of which no call failed, %d ended with an error and were repeated", len(chosen), len(all), w.injected, w.well, w.missed, w.ended)
	if w.well == w.missed || w.ended == 0 || len(w.injected) == 0 {
		t.Error("that tests nothing")
	}
}

// failing is what the runs share: a folder with what they read, and the folder
// that they write to, which is made anew for each.
type failing struct {
	t           *testing.T
	given, made string
	commands    []failingCommand
	injected    map[string]int // calls that failed
	well, ended int
	missed      int // runs in which no call failed
}

type failingCommand struct {
	name  string
	args  []string
	again []string // arguments more to repeat it
	// check looks at what an unfinished run left.
	check func() error
	// result is what it comes to.
	result func() (map[string]string, error)

	paths []string // of files that it has to do with
	want  map[string]string
}

// failure is the n-th call of a kind that each thread of a command makes.
type failure struct {
	command int
	name    string // of the command
	call    string
	err     string
	n       int
}

func newFailing(t *testing.T) *failing {
	root := t.TempDir()
	w := &failing{t: t, given: filepath.Join(root, "given"), made: filepath.Join(root, "made"), injected: map[string]int{}}
	images, data, run := filepath.Join(w.given, "images"), filepath.Join(w.given, "shards"), filepath.Join(w.given, "run")
	if err := synth.Generate(t.Context(), images, synth.Options{Images: 6, MinSide: 32, MaxSide: 40}); err != nil {
		t.Fatal(err)
	}
	training := func(output string) []string {
		return []string{
			"train", "--shards", data, "--output", output, "--arch", "resnet18", "--stem", "small", "--width", "0.0625",
			"--head-hidden", "8", "--head-dim", "4", "--size", "32", "--batch", "2", "--epochs", "1", "--warmup-epoch", "0",
			"--save-every", "2steps", "--keep", "1", "--threads", "1", "--workers", "1",
		}
	}
	mustRun(t, "shard", "--in", images, "--out", data, "--shard-size", "4KiB")
	mustRun(t, training(run)...)

	out := filepath.Join(w.made, "out")
	nothing := func() error { return nil }
	none := func() (map[string]string, error) { return nil, nil }
	shard := failingCommand{name: "shard", args: []string{"shard", "--in", images, "--out", out, "--shard-size", "4KiB", "--workers", "1"}, again: []string{"--resume"}}
	shard.result = func() (map[string]string, error) { return folderContents(out) }
	shard.check = func() error {
		got, err := folderContents(out)
		for name, content := range got {
			if name != "sharding.json" && w.commands[0].want[name] != content {
				return fmt.Errorf("%s is not what it should become", name)
			}
		}
		return err
	}
	backbone := filepath.Join(w.made, "backbone.safetensors")
	export := failingCommand{name: "export", args: []string{"export", "--checkpoint", run, "--out", backbone}}
	export.result = func() (map[string]string, error) {
		data, err := os.ReadFile(backbone)
		return map[string]string{"backbone": string(data)}, err
	}
	export.check = func() error {
		got, err := export.result()
		if err == nil && w.commands[3].want["backbone"] != got["backbone"] {
			return errors.New("the export is not what it should become")
		}
		return nil
	}
	trained := failingCommand{name: "train", args: training(out), again: []string{"--resume", "auto"}}
	trained.result = func() (map[string]string, error) {
		end, err := outcomeOf(out)
		return map[string]string{"end": fmt.Sprint(end)}, err
	}
	trained.check = func() error {
		names, err := checkpoint.Names(out)
		for _, name := range names {
			_, openErr := checkpoint.Open(filepath.Join(out, checkpoint.Folder, name))
			err = errors.Join(err, openErr)
		}
		if _, metricsErr := train.ReadMetrics(out); metricsErr != nil && !errors.Is(metricsErr, os.ErrNotExist) {
			err = errors.Join(err, metricsErr)
		}
		return err
	}
	verify := failingCommand{name: "verify", args: []string{"verify", "--shards", data, "--deep"}, check: nothing, result: none}
	w.commands = []failingCommand{shard, trained, verify, export}
	return w
}

// run runs a command, under strace with options if there are any, and returns
// its exit code, what it said, and what strace said.
func (w *failing) run(args []string, strace ...string) (code int, said, log string) {
	w.t.Helper()
	name, all := os.Args[0], args
	logFile := filepath.Join(w.given, "strace")
	if strace != nil {
		name, all = "strace", append(append(append([]string{"-f", "-qq", "-o", logFile}, strace...), os.Args[0]), args...)
	}
	cmd := exec.CommandContext(w.t.Context(), name, append(all, "--log-level", "error")...)
	// One core, so that the calls of a kind are nearly all those of one thread.
	cmd.Env = append(os.Environ(), asProgram+"=1", "GOMAXPROCS=1")
	text, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		w.t.Fatal(err)
	}
	if strace != nil {
		data, err := os.ReadFile(logFile)
		if err != nil {
			w.t.Fatal(err)
		}
		log = string(data)
	}
	return cmd.ProcessState.ExitCode(), string(text), log
}

func (w *failing) fresh() {
	w.t.Helper()
	if err := errors.Join(os.RemoveAll(w.made), os.Mkdir(w.made, 0o777)); err != nil {
		w.t.Fatal(err)
	}
}

// undisturbed runs a command and keeps its result.
func (w *failing) undisturbed(c *failingCommand, strace ...string) (log string) {
	w.t.Helper()
	w.fresh()
	code, said, log := w.run(c.args, strace...)
	if code != 0 {
		w.t.Fatalf("%v: %s", c.args, said)
	}
	var err error
	if c.want, err = c.result(); err != nil {
		w.t.Fatal(err)
	}
	return log
}

// failures runs a command undisturbed and lists what can fail in it.
func (w *failing) failures(command int) []failure {
	w.t.Helper()
	c := &w.commands[command]
	log := w.undisturbed(c, "-e", "trace=openat,renameat,unlinkat,mkdirat")
	paths := map[string]bool{}
	for _, m := range regexp.MustCompile(`"(/[^"]*)"`).FindAllStringSubmatch(log, -1) {
		if strings.HasPrefix(m[1], w.given) || strings.HasPrefix(m[1], w.made) {
			paths[m[1]] = true
		}
	}
	c.paths = slices.Sorted(maps.Keys(paths))

	w.fresh()
	_, _, log = w.run(c.args, c.about(strings.Join(slices.Sorted(maps.Keys(injections)), ","))...)
	most := map[string]int{} // calls of a kind by one thread
	for _, line := range slices.Collect(strings.Lines(log)) {
		thread, rest, _ := strings.Cut(line, " ")
		call, _, ok := strings.Cut(strings.TrimSpace(rest), "(")
		if ok && injections[call] != nil {
			most[thread+" "+call]++
		}
	}
	times := map[string]int{}
	for key, n := range most {
		_, call, _ := strings.Cut(key, " ")
		times[call] = max(times[call], n)
	}
	var list []failure
	for _, call := range slices.Sorted(maps.Keys(times)) {
		for n := range times[call] {
			for _, err := range injections[call] {
				list = append(list, failure{command, c.name, call, err, n + 1})
			}
		}
	}
	return list
}

// about are the options for calls that have to do with the command's files.
func (c *failingCommand) about(calls string) []string {
	options := []string{"-e", "trace=" + calls}
	for _, path := range c.paths {
		options = append(options, "-P", path)
	}
	return options
}

func (f failure) String() string {
	return fmt.Sprintf("%s: call %d of %s: %s", f.name, f.n, f.call, f.err)
}

// try runs a command with a failure.
func (w *failing) try(f failure) {
	c := &w.commands[f.command]
	w.fresh()
	code, said, log := w.run(c.args, append(c.about(f.call), "-e", fmt.Sprintf("inject=%s:error=%s:when=%d", f.call, f.err, f.n))...)
	injected := strings.Count(log, "(INJECTED)")
	if injected == 0 { // the run had fewer such calls than the one that was counted
		w.missed++
	} else {
		w.injected[c.name+" "+f.call] += injected
	}
	if code != 0 && (f.err == "EINTR" || injected == 0) {
		w.t.Errorf("%s: an interrupted call is not made again, or no call failed: %s", c.name, said)
	}
	w.look(c, code, said)
	w.repeat(c, code)
}

// repeat runs a command again that ended with an error.
func (w *failing) repeat(c *failingCommand, code int) {
	w.t.Helper()
	if code == 0 {
		w.well++
		return
	}
	w.ended++
	code, said, _ := w.run(append(slices.Clone(c.args), c.again...))
	if code != 0 {
		w.t.Errorf("%s: repeated: %s", c.name, said)
	}
	w.look(c, code, said)
}

// look checks what a run said and left.
func (w *failing) look(c *failingCommand, code int, said string) {
	w.t.Helper()
	checkWords(w.t, said)
	if err := c.check(); err != nil {
		w.t.Errorf("%s: %v; it said: %s", c.name, err, said)
	}
	if code == 0 {
		got, err := c.result()
		if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
			w.t.Errorf("%s ended well, but with another result (%v): %.2000s\n%s", c.name, err, diff, said)
		}
		return
	}
	if code != 1 || strings.Count(strings.TrimSpace(said), "\n") > 2 || !strings.Contains(said, "pixpro: ") {
		w.t.Errorf("%s: exit code %d: %s", c.name, code, said)
	}
}

// TestFullDisks runs the program where writes stop in the middle: at the user's
// limit for a file's size, and on file systems that are too small.
func TestFullDisks(t *testing.T) {
	if testing.Short() {
		t.Skip("it is the program that is tested, not its goroutines; make test runs it")
	}
	if runtime.GOOS != "linux" {
		t.Skip("limits and file systems are set up as on Linux")
	}
	w := newFailing(t)
	for i := range w.commands {
		w.t = t
		if w.undisturbed(&w.commands[i]); w.commands[i].want == nil {
			continue // it writes nothing
		}
		c := &w.commands[i]
		size := int64(0) // of the largest file
		err := filepath.WalkDir(w.made, func(_ string, e os.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			info, err := e.Info()
			if err == nil {
				size = max(size, info.Size())
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Run(c.name+" at the limit of a file's size", func(t *testing.T) {
			w.t = t
			for part := range int64(8) {
				w.fresh()
				limit := fmt.Sprintf("ulimit -f %d; exec \"$0\" \"$@\"", size*part/8/512)
				cmd := exec.CommandContext(t.Context(), "sh", append([]string{"-c", limit, os.Args[0]}, c.args...)...)
				cmd.Env = append(os.Environ(), asProgram+"=1")
				said, _ := cmd.CombinedOutput()
				code := cmd.ProcessState.ExitCode()
				if code == 0 || !strings.Contains(string(said), "file too large") {
					t.Errorf("exit code %d: %s", code, said)
				}
				w.look(c, code, string(said))
				w.repeat(c, code)
			}
		})
		t.Run(c.name+" on a full disk", func(t *testing.T) {
			w.t = t
			for part := range int64(8) {
				w.fresh()
				small := exec.Command("mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%d", max(4096, size*part/8)), "none", w.made)
				if text, err := small.CombinedOutput(); err != nil {
					t.Skipf("no small file system can be mounted (%v: %s): root may", err, bytes.TrimSpace(text))
				}
				code, said, _ := w.run(c.args)
				if code == 0 || !strings.Contains(said, "no space left") {
					t.Errorf("exit code %d: %s", code, said)
				}
				w.look(c, code, said)
				larger, err := exec.Command("mount", "-o", "remount,size=100m", w.made).CombinedOutput()
				if err != nil {
					t.Fatalf("%v: %s", err, larger)
				}
				w.repeat(c, code)
				if text, err := exec.Command("umount", w.made).CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, text)
				}
			}
		})
	}
	t.Logf("%d runs ended with an error and were repeated", w.ended)
}
