package train

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"

	"github.com/seed-436d2970/pixpro/internal/atomicfile"
)

// MetricsFile is the name of the file in a training output with one JSON
// object a step, of type Metrics.
const MetricsFile = "metrics.jsonl"

// Metrics is what is known after a step.
type Metrics struct {
	Step            int64   `json:"step"`  // counted from 1
	Epoch           int64   `json:"epoch"` // counted from 1
	Loss            float64 `json:"loss"`
	LearningRate    float64 `json:"lr"`
	KeyMomentum     float64 `json:"key_momentum"`
	PairsPerSecond  float64 `json:"pairs_per_second"`
	DataWaitSeconds float64 `json:"data_wait_seconds"` // part of the step spent waiting for its batch
	// ProjectionStd, of every tenth step, shows a collapse: see method.Result.
	ProjectionStd float64 `json:"projection_std,omitempty"`
}

// ReadMetrics reads the metrics of a training output. A last line that a
// killed run left unfinished is passed over.
func ReadMetrics(output string) ([]Metrics, error) {
	return readMetrics(output, math.MaxInt64)
}

// readMetrics reads the metrics of the steps up to last.
func readMetrics(output string, last int64) ([]Metrics, error) {
	path := filepath.Join(output, MetricsFile)
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("train: metrics: %w", err)
	}
	var all []Metrics
	for line := 1; len(data) > 0 && (len(all) == 0 || all[len(all)-1].Step < last); line++ {
		text, rest, finished := bytes.Cut(data, []byte("\n"))
		data = rest
		var m Metrics
		if err := json.Unmarshal(text, &m); err != nil {
			if !finished {
				break
			}
			return nil, fmt.Errorf("train: %s line %d: %w", path, line, err)
		}
		all = append(all, m)
	}
	return all, nil
}

// metricsWriter appends to metrics.jsonl.
type metricsWriter struct{ file atomicfile.Handle }

// openMetrics starts the file anew after the given step: what a run before
// did after the checkpoint that this one goes on from is dropped.
func openMetrics(files atomicfile.FS, output string, step int64) (*metricsWriter, error) {
	path := filepath.Join(output, MetricsFile)
	var kept bytes.Buffer
	enc := json.NewEncoder(&kept)
	if step > 0 {
		// Lines up to a checkpoint were flushed before it; those behind may be damaged.
		before, err := readMetrics(output, step)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, m := range before {
			if m.Step > step {
				break
			}
			if err := enc.Encode(m); err != nil {
				return nil, err
			}
		}
	}
	if err := atomicfile.WriteFileOn(files, path, kept.Bytes()); err != nil {
		return nil, fmt.Errorf("train: metrics: %w", err)
	}
	f, err := files.Append(path)
	if err != nil {
		return nil, fmt.Errorf("train: metrics: %w", err)
	}
	return &metricsWriter{f}, nil
}

func (w *metricsWriter) write(m Metrics) error {
	line, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("train: metrics of step %d: %w", m.Step, err)
	}
	if _, err := w.file.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("train: metrics: %w", err)
	}
	return nil
}

// flush makes the lines so far survive a loss of power, as a checkpoint of
// their steps does.
func (w *metricsWriter) flush() error {
	if err := w.file.Sync(); err != nil {
		return fmt.Errorf("train: metrics: %w", err)
	}
	return nil
}

func (w *metricsWriter) close() error { return w.file.Close() }
