package options

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

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

// MarshalYAML implements yaml.Marshaler.
func (i Interval) MarshalYAML() (any, error) { return i.String(), nil }

// UnmarshalYAML implements yaml.Unmarshaler.
func (i *Interval) UnmarshalYAML(node *yaml.Node) (err error) {
	*i, err = ParseInterval(node.Value)
	return err
}
