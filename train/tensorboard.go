package train

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"image"
	"image/draw"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/seed-436d2970/pixpro/augment"
	"github.com/seed-436d2970/pixpro/pipeline"
	"google.golang.org/protobuf/encoding/protowire"
)

// eventWriter appends to a TensorBoard event file: TensorFlow's records (length,
// its checksum, data, its checksum), each a protocol buffer of type
// tensorflow.Event. The field numbers below are those of event.proto and
// summary.proto.
type eventWriter struct{ file *os.File }

const (
	eventWallTime    protowire.Number = 1
	eventStep        protowire.Number = 2
	eventFileVersion protowire.Number = 3
	eventSummary     protowire.Number = 5

	summaryValue protowire.Number = 1
	valueTag     protowire.Number = 1
	valueSimple  protowire.Number = 2
	valueImage   protowire.Number = 4

	imageHeight     protowire.Number = 1
	imageWidth      protowire.Number = 2
	imageColorspace protowire.Number = 3
	imageEncoded    protowire.Number = 4
)

// newEventWriter starts an event file in a training output; TensorBoard joins
// the files of a run that was resumed.
func newEventWriter(output string, now time.Time) (*eventWriter, error) {
	path := filepath.Join(output, fmt.Sprintf("events.out.tfevents.%d.%09d.%d.pixpro", now.Unix(), now.Nanosecond(), os.Getpid()))
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("train: events: %w", err)
	}
	w := &eventWriter{f}
	event := protowire.AppendTag(startEvent(now, 0), eventFileVersion, protowire.BytesType)
	return w, w.record(protowire.AppendString(event, "brain.Event:2"))
}

func startEvent(now time.Time, step int64) []byte {
	event := protowire.AppendTag(nil, eventWallTime, protowire.Fixed64Type)
	event = protowire.AppendFixed64(event, math.Float64bits(float64(now.UnixNano())/1e9))
	return appendNumber(event, eventStep, int(step))
}

// metrics writes a step's figures.
func (w *eventWriter) metrics(m Metrics) error {
	var summary []byte
	scalar := func(tag string, v float64) {
		value := appendMessage(nil, valueTag, []byte(tag))
		value = protowire.AppendTag(value, valueSimple, protowire.Fixed32Type)
		value = protowire.AppendFixed32(value, math.Float32bits(float32(v)))
		summary = appendMessage(summary, summaryValue, value)
	}
	scalar("loss", m.Loss)
	scalar("learning_rate", m.LearningRate)
	scalar("key_momentum", m.KeyMomentum)
	scalar("pairs_per_second", m.PairsPerSecond)
	scalar("data_wait_seconds", m.DataWaitSeconds)
	if m.ProjectionStd > 0 {
		scalar("projection_std", m.ProjectionStd)
	}
	return w.record(appendMessage(startEvent(time.Now(), m.Step), eventSummary, summary))
}

// maxSheetPairs is the most pairs of views in one picture.
const maxSheetPairs = 8

// views writes a batch's first pairs as a picture: first views above, second
// views below.
func (w *eventWriter) views(step int64, b *pipeline.Batch) error {
	size, n := b.Size(), min(b.Len(), maxSheetPairs)
	sheet := image.NewRGBA(image.Rect(0, 0, n*size, 2*size))
	for v := range 2 {
		for i := range n {
			view := augment.Planes{Width: size, Height: size, Pix: b.Views(v)[3*size*size*i:][:3*size*size]}
			at := image.Rect(i*size, v*size, (i+1)*size, (v+1)*size)
			draw.Draw(sheet, at, view.RGBA(), image.Point{}, draw.Src)
		}
	}
	var encoded bytes.Buffer
	if err := png.Encode(&encoded, sheet); err != nil {
		return fmt.Errorf("train: events: %w", err)
	}
	const rgb = 3
	picture := appendNumber(nil, imageHeight, 2*size)
	picture = appendNumber(picture, imageWidth, n*size)
	picture = appendNumber(picture, imageColorspace, rgb)
	picture = appendMessage(picture, imageEncoded, encoded.Bytes())
	value := appendMessage(nil, valueTag, []byte("views"))
	value = appendMessage(value, valueImage, picture)
	return w.record(appendMessage(startEvent(time.Now(), step), eventSummary, appendMessage(nil, summaryValue, value)))
}

func appendNumber(to []byte, field protowire.Number, v int) []byte {
	return protowire.AppendVarint(protowire.AppendTag(to, field, protowire.VarintType), uint64(v))
}

// appendMessage appends a field of bytes: a message, a string.
func appendMessage(to []byte, field protowire.Number, content []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(to, field, protowire.BytesType), content)
}

func (w *eventWriter) record(data []byte) error {
	out := binary.LittleEndian.AppendUint64(nil, uint64(len(data)))
	out = binary.LittleEndian.AppendUint32(out, maskedChecksum(out))
	out = append(out, data...)
	out = binary.LittleEndian.AppendUint32(out, maskedChecksum(data))
	if _, err := w.file.Write(out); err != nil {
		return fmt.Errorf("train: events: %w", err)
	}
	return nil
}

// maskedChecksum is the CRC-32C of the record format: rotated and shifted, so
// that checksums of data that holds checksums are no special case.
func maskedChecksum(data []byte) uint32 {
	c := crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli))
	return (c>>15 | c<<17) + 0xa282ead8
}

func (w *eventWriter) close() error { return w.file.Close() }
