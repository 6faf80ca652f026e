// Command soak works PixPro's packages for minutes or days and fails on a trend.
//
//	make soak MINUTES=60
//
// Three processes run beside each other: endless streams of views that are
// stopped and reopened, training that is cancelled at random steps and resumed
// while it saves and prunes, and sharding, evaluation and export in turns. Each
// is sampled for resident memory, open descriptors, threads, goroutines, live
// heap, and units of work a second of processor time, which other load on the
// machine disturbs less than time. See judge for what counts as a trend.
//
// It writes soak.csv with all samples and soak.png with their curves. The exit
// code is 1 on a trend, if a process fails, hangs or does not end, or if there are
// too few samples to judge.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"
)

// report is a line of an activity's standard output.
type report struct {
	Units      int64  `json:"units"` // of work since the start
	Goroutines int    `json:"goroutines"`
	Heap       uint64 `json:"heap"` // live bytes
}

func main() {
	var (
		minutes  = flag.Float64("minutes", 10, "how long to work")
		out      = flag.String("out", "soak", "folder for soak.csv and soak.png")
		activity = flag.String("activity", "", "")
		dir      = flag.String("dir", "", "")
		interval = flag.Duration("interval", 0, "time between samples (default: a 240th of the whole, at least 1s)")
	)
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "soak [-minutes 10] [-out DIR] [-interval 15s]: works for so long, and fails on a trend")
	}
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if *interval == 0 {
		*interval = max(time.Second, time.Duration(*minutes/240*float64(time.Minute)))
	}
	var err error
	if *activity != "" {
		err = work(ctx, *activity, *dir, *interval)
	} else {
		err = soak(ctx, time.Duration(*minutes*float64(time.Minute)), *interval, *out)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

// soak starts the activities, samples them, and judges what it saw.
func soak(ctx context.Context, length, interval time.Duration, out string) error {
	if err := os.MkdirAll(out, 0o777); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "soak")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := prepare(ctx, dir); err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	var (
		names  = activityNames()
		series = make([][]sample, len(names))
		errs   = make([]error, len(names))
		wg     sync.WaitGroup
		start  = time.Now()
	)
	for i, name := range names {
		wg.Go(func() {
			series[i], errs[i] = follow(ctx, name, filepath.Join(dir, name), interval, start)
			if errs[i] != nil {
				cancel() // there is no use in the others
			}
		})
	}
	go progress(ctx, start, length)
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := writeSamples(filepath.Join(out, "soak.csv"), names, series); err != nil {
		return err
	}
	if err := drawCurves(filepath.Join(out, "soak.png"), names, series); err != nil {
		return err
	}
	return verdict(names, series)
}

func progress(ctx context.Context, start time.Time, length time.Duration) {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			fmt.Fprintf(os.Stderr, "soak: %v of %v\n", time.Since(start).Round(time.Second), length)
		}
	}
}

// endsWithin is how long a process may take to end when it is told to.
var endsWithin = time.Minute

// follow starts an activity in a process of its own and samples it until ctx is
// done. The process ends when its standard input does, so it never outlives this
// one.
func follow(ctx context.Context, name, dir string, interval time.Duration, start time.Time) ([]sample, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, program, "-activity", name, "-dir", dir, "-interval", interval.String())
	cmd.WaitDelay = endsWithin
	var said bytes.Buffer
	cmd.Stderr = &said
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	lines, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Cancel = in.Close
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	var samples []sample
	scanner := bufio.NewScanner(lines)
	for scanner.Scan() {
		s := sample{At: time.Since(start)}
		if err = json.Unmarshal(scanner.Bytes(), &s.report); err == nil {
			err = s.process.read(cmd.Process.Pid)
		}
		if err != nil {
			in.Close()
			break
		}
		samples = append(samples, s)
	}
	waitErr := cmd.Wait()
	if !cmd.ProcessState.Success() {
		return samples, fmt.Errorf("%s: %v: %w: %s", name, cmd.ProcessState, waitErr, lastLines(said.Bytes()))
	}
	if ctx.Err() != nil {
		err = nil // of a process that ended while it was sampled
	} else if err == nil {
		err = errors.New("ended before its time")
	}
	if err != nil {
		return samples, fmt.Errorf("%s: %w", name, err)
	}
	return samples, nil
}

func lastLines(text []byte) []byte { return text[max(0, len(text)-4000):] }

// writeSamples writes a table of all samples.
func writeSamples(path string, names []string, series [][]sample) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := csv.NewWriter(f)
	head := []string{"activity", "seconds", "units", "cpu_seconds"}
	for _, m := range figures {
		head = append(head, m.name)
	}
	err = w.Write(head)
	for i, name := range names {
		for k, s := range series[i] {
			row := []string{name, strconv.FormatFloat(s.At.Seconds(), 'f', 1, 64), fmt.Sprint(s.Units), strconv.FormatFloat(s.CPU.Seconds(), 'f', 2, 64)}
			for _, m := range figures {
				row = append(row, strconv.FormatFloat(m.value(series[i], k), 'g', 6, 64))
			}
			err = errors.Join(err, w.Write(row))
		}
	}
	w.Flush()
	return errors.Join(err, w.Error(), f.Close())
}

// verdict prints a line for each activity and metric, and fails on a trend.
func verdict(names []string, series [][]sample) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "activity\tmetric\tfirst\tlast\tan hour\tp\t")
	var trends, unknown []string
	for i, name := range names {
		if pause, whole := longestPause(series[i]); pause > whole/10 {
			return fmt.Errorf("%s did nothing for %v", name, pause.Round(time.Second))
		}
		for _, m := range figures {
			j := m.judge(series[i])
			mark := ""
			if math.IsNaN(j.first) {
				unknown = append(unknown, name+" "+m.name)
			}
			if j.trend {
				mark = "TREND"
				trends = append(trends, name+" "+m.name)
			}
			fmt.Fprintf(w, "%s\t%s\t%.4g\t%.4g\t%+.3g\t%.2g\t%s\n", name, m.name, j.first, j.last, j.hourly, j.p, mark)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if len(unknown) > 0 {
		return fmt.Errorf("there are too few samples to judge %v: at least %d behind the first quarter are needed; work for longer", unknown, fewest)
	}
	if len(trends) > 0 {
		return fmt.Errorf("there is a trend in %v", trends)
	}
	return nil
}

func activityNames() []string {
	var names []string
	for name := range activities {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
