package shards

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/seed-436d2970/pixpro/internal/atomicfile"
	"github.com/seed-436d2970/pixpro/internal/version"
)

const manifestName = "manifest.json"

// Manifest is manifest.json: what a dataset consists of.
type Manifest struct {
	Version    int         `json:"version"`
	Classes    []string    `json:"classes"`            // a label is an index into it
	Rows       int64       `json:"rows"`               // of all shards
	ImageBytes int64       `json:"image_bytes"`        // encoded bytes of all images
	Order      Order       `json:"order,omitempty"`    // of the images; "": sorted by key
	Seed       uint64      `json:"seed,omitempty"`     // of the order
	MaxSide    int         `json:"max_side,omitempty"` // larger images were shrunk to it and became JPEGs; 0: none was
	Sharding   *Sharding   `json:"sharding,omitempty"` // what it was made from; nil in early manifests
	Shards     []ShardInfo `json:"shards"`             // in dataset order
}

// Sharding is what, besides the order and the largest side, a run must share
// with another one to give the same dataset.
type Sharding struct {
	ShardSize int64 `json:"shard_size"`
	Check     Check `json:"check"`
	// Limits of images, where they were decoded and the limits were not the default.
	MaxPixels     int64         `json:"max_pixels,omitempty"`
	MaxDecodeTime time.Duration `json:"max_decode_time,omitempty"` // in nanoseconds
	Files         int64         `json:"files"`                     // in the inputs
	Listing       string        `json:"listing"`                   // digest of their names, labels and sizes, as far as archives list these
}

// ShardInfo is the manifest's entry for one shard.
type ShardInfo struct {
	Name       string `json:"name"` // file name, in the manifest's folder
	Rows       int64  `json:"rows"`
	ImageBytes int64  `json:"image_bytes"`
	Bytes      int64  `json:"bytes"`  // size of the file
	SHA256     string `json:"sha256"` // of the file, in hexadecimal
}

// ReadManifest reads and checks the manifest of the shard folder dir. Where
// there is none the error is an fs.ErrNotExist.
func ReadManifest(dir string) (Manifest, error) {
	m, err := readManifest(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return Manifest{}, fmt.Errorf("shards: %w: not a shard folder, or sharding was interrupted: run pixpro shard --resume", err)
	}
	if err != nil {
		return Manifest{}, fmt.Errorf("shards: %w", err)
	}
	return m, nil
}

func readManifest(dir string) (Manifest, error) {
	path := filepath.Join(dir, manifestName)
	data, err := os.ReadFile(path)
	if err != nil {
		return Manifest{}, err
	}
	m, err := parseManifest(data)
	if err != nil {
		return Manifest{}, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

func parseManifest(data []byte) (Manifest, error) {
	if err := checkFormat(data); err != nil {
		return Manifest{}, err
	}
	var m Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return Manifest{}, err
	}
	return m, m.check()
}

// checkFormat looks at what a manifest or state says of its format and writer
// alone, since a later one may differ in all else.
func checkFormat(data []byte) error {
	var s struct {
		Version int
		PixPro  string // said from the second version on
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return err
	}
	if s.Version > formatVersion {
		return fmt.Errorf("it has %w", version.Newer(s.Version, formatVersion, s.PixPro))
	}
	if s.Version != formatVersion {
		return fmt.Errorf("version is %d, this program reads version %d", s.Version, formatVersion)
	}
	return nil
}

// check says what makes the manifest unusable.
func (m *Manifest) check() error {
	if len(m.Shards) == 0 {
		return errors.New("lists no shards")
	}
	var rows, imageBytes int64
	seen := make(map[string]bool, len(m.Shards))
	for i, s := range m.Shards {
		switch {
		case !isFileName(s.Name):
			return fmt.Errorf("shard %d: name %q is not a file name", i, s.Name)
		case seen[s.Name]:
			return fmt.Errorf("shard %d: %s is listed twice", i, s.Name)
		case s.Rows <= 0 || s.ImageBytes < 0 || s.Bytes <= 0:
			return fmt.Errorf("shard %d: %s: rows, image_bytes and bytes must be positive", i, s.Name)
		case s.Rows > s.Bytes || s.ImageBytes > s.Bytes:
			return fmt.Errorf("shard %d: %s: %d rows with %d image bytes do not fit in %d bytes", i, s.Name, s.Rows, s.ImageBytes, s.Bytes)
		}
		if sum, err := hex.DecodeString(s.SHA256); err != nil || len(sum) != 32 {
			return fmt.Errorf("shard %d: %s: sha256 is not 64 hexadecimal digits", i, s.Name)
		}
		seen[s.Name] = true
		rows += s.Rows
		imageBytes += s.ImageBytes
		if rows < 0 || imageBytes < 0 {
			return errors.New("the shards' totals exceed 63 bits")
		}
	}
	if rows != m.Rows || imageBytes != m.ImageBytes {
		return fmt.Errorf("the shards have %d rows with %d image bytes, the totals say %d with %d", rows, imageBytes, m.Rows, m.ImageBytes)
	}
	return nil
}

// isFileName reports whether name names a file of the folder itself on every
// system.
func isFileName(name string) bool {
	return filepath.IsLocal(name) && name != "." && !strings.ContainsAny(name, `/\:`)
}

// write makes dir a dataset.
func (m *Manifest) write(fsys atomicfile.FS, dir string) error {
	return writeJSON(fsys, filepath.Join(dir, manifestName), m)
}

func writeJSON(fsys atomicfile.FS, path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.WriteFileOn(fsys, path, append(data, '\n'))
}
