package main

import (
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"io"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"github.com/rs/zerolog/log"
	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/seed-436d2970/pixpro/internal/atomicfile"
	"github.com/seed-436d2970/pixpro/internal/cpu"
)

// terminal says whether progress bars and colours make sense.
func terminal() bool { return term.IsTerminal(int(os.Stderr.Fd())) }

// setUpLog sends logs to standard error: for people on a terminal, as JSON
// otherwise.
func setUpLog(cmd *cobra.Command) error {
	name, err := cmd.Flags().GetString("log-level")
	if err != nil {
		return err
	}
	level, err := zerolog.ParseLevel(name)
	if err != nil || level == zerolog.NoLevel {
		return usageError{fmt.Errorf("log-level %q: use debug, info, warn or error", name)}
	}
	var out io.Writer = os.Stderr
	if terminal() {
		out = zerolog.ConsoleWriter{Out: aboveBar{os.Stderr}, TimeFormat: time.TimeOnly}
	}
	log.Logger = zerolog.New(out).Level(level).With().Timestamp().Logger()
	if err := cpu.EnvironmentError(); err != nil {
		return usageError{err}
	}
	return nil
}

// activeBar is the progress bar on the terminal, if there is one.
var activeBar atomic.Pointer[progressbar.ProgressBar]

// aboveBar wipes the progress bar away before a line is written; the bar
// comes back with its next change.
type aboveBar struct{ io.Writer }

func (w aboveBar) Write(p []byte) (int, error) {
	if bar := activeBar.Load(); bar != nil {
		_ = bar.Clear() // fails only where nothing can be written either
	}
	return w.Writer.Write(p)
}

// progress shows how far something is: a bar on a terminal, otherwise a log
// line now and then.
type progress struct {
	bar    *progressbar.ProgressBar // nil without a terminal
	what   string
	total  int64
	logged time.Time
}

// logInterval is the time between progress lines in a log.
const logInterval = 10 * time.Second

func newProgress(what string, total int64, bytes bool) *progress {
	p := &progress{what: what, total: total, logged: time.Now()}
	if terminal() {
		p.bar = progressbar.NewOptions64(total,
			progressbar.OptionSetDescription(what),
			progressbar.OptionSetWriter(os.Stderr),
			progressbar.OptionShowBytes(bytes),
			progressbar.OptionShowCount(),
			progressbar.OptionShowIts(),
			progressbar.OptionSetPredictTime(true),
			progressbar.OptionThrottle(100*time.Millisecond),
			progressbar.OptionClearOnFinish(),
		)
		activeBar.Store(p.bar)
	}
	return p
}

// set shows that done of the total is done, with details about the present.
func (p *progress) set(done, total int64, details string) {
	if p.bar != nil {
		if total != p.total {
			p.bar.ChangeMax64(total)
			p.total = total
		}
		p.bar.Describe(p.what + details)
		_ = p.bar.Set64(done) // fails only past the end, where there is nothing to show
		return
	}
	if time.Since(p.logged) >= logInterval {
		p.logged = time.Now()
		log.Info().Int64("done", done).Int64("total", total).Msg(p.what + details)
	}
}

func (p *progress) finish() {
	if p.bar != nil {
		activeBar.Store(nil)
		_ = p.bar.Finish()
	}
}

// result prints what a command found: v as JSON, or the text.
func result(cmd *cobra.Command, asJSON bool, v any, text string) error {
	if !asJSON {
		_, err := fmt.Fprint(cmd.OutOrStdout(), text)
		return err
	}
	enc := json.NewEncoder(cmd.OutOrStdout())
	return enc.Encode(v)
}

// boundMemory keeps garbage from taking much more than what is in use now and
// what sharding and verifying hold at a time, unless GOMEMLIMIT says otherwise.
func boundMemory() {
	const working = 256 << 20
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	debug.SetMemoryLimit(int64(live[0].Value.Uint64()) + working)
}

// count is a number of things, such as 1 shard or 2 shards.
func count(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// byteSize is a flag such as 256MiB.
type byteSize int64

var byteUnits = []struct {
	name string
	size int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1},
}

func (b *byteSize) Set(s string) error {
	number, unit := s, int64(1)
	for _, u := range byteUnits {
		if n, ok := strings.CutSuffix(s, u.name); ok {
			number, unit = strings.TrimSpace(n), u.size
			break
		}
	}
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || !(f > 0) || f*float64(unit) > 1<<60 {
		return fmt.Errorf("use a size such as 256MiB or 1GB")
	}
	*b = byteSize(f * float64(unit))
	return nil
}

func (b *byteSize) String() string {
	n := int64(*b)
	for _, u := range []int{3, 2, 1, 0} {
		if size := byteUnits[u].size; n >= size && n%size == 0 {
			return fmt.Sprintf("%d%s", n/size, byteUnits[u].name)
		}
	}
	return fmt.Sprintf("%dB", n)
}

// Type implements pflag.Value.
func (b *byteSize) Type() string { return "size" }

// writePNG writes a picture that appears when it is complete.
func writePNG(path string, m image.Image) error {
	return atomicfile.WriteTo(path, func(w io.Writer) error { return png.Encode(w, m) })
}

// required fails unless the named flags have values.
func required(cmd *cobra.Command, names ...string) error {
	for _, name := range names {
		if f := cmd.Flags().Lookup(name); f.Value.String() == "" {
			return usageError{fmt.Errorf("--%s is needed: %s", name, f.Usage)}
		}
	}
	return nil
}

// refuse refuses the first of the named flags that was given, and says why.
func refuse(cmd *cobra.Command, why string, names ...string) error {
	for _, name := range names {
		if cmd.Flags().Changed(name) {
			return usageError{fmt.Errorf("--%s %s", name, why)}
		}
	}
	return nil
}
