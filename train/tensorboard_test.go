package train

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// TestEventsHoldTheMetrics reads the event files of a run that was stopped and
// resumed.
func TestEventsHoldTheMetrics(t *testing.T) {
	cfg := tiny(makeShards(t), t.TempDir())
	cfg.Resume = "auto"
	if err := trainFor(t, cfg, 7); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if err := trainFor(t, cfg, 0); err != nil {
		t.Fatal(err)
	}
	metrics, err := ReadMetrics(cfg.Output)
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(cfg.Output, "events.out.tfevents.*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("event files %v (%v)", files, err)
	}
	losses, pictures := map[uint64]float32{}, 0
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for len(data) > 0 {
			var event []byte
			event, data = nextRecord(t, data)
			fields := parse(t, event)
			if summary, ok := fields[eventSummary]; ok {
				value := parse(t, parse(t, summary.([]byte))[summaryValue].([]byte))
				switch tag := string(value[valueTag].([]byte)); tag {
				case "loss":
					losses[fields[eventStep].(uint64)] = math.Float32frombits(value[valueSimple].(uint32))
				case "views":
					pictures++
				default:
					t.Errorf("a summary begins with %q", tag)
				}
			}
		}
	}
	for _, m := range metrics {
		if losses[uint64(m.Step)] != float32(m.Loss) {
			t.Errorf("the event of step %d has the loss %g, want %g", m.Step, losses[uint64(m.Step)], m.Loss)
		}
	}
	if want := 4; pictures != want { // of three epochs, the second one in both runs
		t.Errorf("%d pictures of views, want %d", pictures, want)
	}
}

// nextRecord checks and cuts off the first record.
func nextRecord(t *testing.T, data []byte) (record, rest []byte) {
	t.Helper()
	if len(data) < 12 {
		t.Fatal("the event file ends within a record")
	}
	n := binary.LittleEndian.Uint64(data)
	if binary.LittleEndian.Uint32(data[8:]) != maskedChecksum(data[:8]) || uint64(len(data)) < 16+n {
		t.Fatal("the event file has a wrong length")
	}
	record = data[12 : 12+n]
	if binary.LittleEndian.Uint32(data[12+n:]) != maskedChecksum(record) {
		t.Fatal("the event file has a wrong checksum")
	}
	return record, data[16+n:]
}

// parse returns the first value of each field of a message.
func parse(t *testing.T, message []byte) map[protowire.Number]any {
	t.Helper()
	fields := map[protowire.Number]any{}
	for len(message) > 0 {
		number, typ, n := protowire.ConsumeTag(message)
		if n < 0 {
			t.Fatal(protowire.ParseError(n))
		}
		message = message[n:]
		var v any
		switch typ {
		case protowire.VarintType:
			v, n = protowire.ConsumeVarint(message)
		case protowire.Fixed32Type:
			v, n = protowire.ConsumeFixed32(message)
		case protowire.Fixed64Type:
			v, n = protowire.ConsumeFixed64(message)
		default:
			v, n = protowire.ConsumeBytes(message)
		}
		if n < 0 {
			t.Fatal(protowire.ParseError(n))
		}
		message = message[n:]
		if _, ok := fields[number]; !ok {
			fields[number] = v
		}
	}
	return fields
}
