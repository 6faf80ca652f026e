package atomicfiletest

import (
	"errors"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/seed-436d2970/pixpro/internal/atomicfile"
)

// Disk is the system's file system that remembers what is done below a folder,
// and makes what a disk may have left of it after the power is cut.
//
// POSIX promises little: what fsync returned for is on the disk, a file's content
// by an fsync of the file, its name by one of the folder. All else may be there
// or not, in any order, but for a rename, which is there or not as a whole.
// (Pillai et al., All File Systems Are Not Created Equal, OSDI 2014, found file
// systems for nearly all of this.) So of writes that were not flushed, pages are
// lost, torn, or of zeros, and of changes to a folder that was not flushed any may
// be missing, whatever became of those before and after it.
type Disk struct {
	root string

	mu   sync.Mutex
	base *node            // what the folder had in the beginning
	done []func(m *state) // operations, to be done again
	said []string         // their names
}

var _ atomicfile.FS = (*Disk)(nil)

// NewDisk remembers what is done below a folder that exists.
func NewDisk(root string) (*Disk, error) {
	base, err := load(root)
	return &Disk{root: filepath.Clean(root), base: base}, err
}

// Operations are the names of what was done.
func (d *Disk) Operations() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.said)
}

// state is the folder after some operations.
type state struct {
	root *node
	open map[int]*node // by the number of the operation that opened it
}

// node is a file or a folder.
type node struct {
	// Of a file: what is on the disk for certain, and what was done since.
	synced  []byte
	pending []edit
	size    int // that programs see

	// Of a folder: what programs see, what is on the disk for certain, and what
	// was changed since.
	names   map[string]*node // nil for a file
	onDisk  map[string]*node
	changes []change
}

// edit is a part of a file's content that was written, or, if data is nil, the
// loss of all.
type edit struct {
	at   int
	data []byte
}

// change gives names in a folder to nodes, or, with nil, to none.
type change map[string]*node

func newFolder() *node { return &node{names: map[string]*node{}, onDisk: map[string]*node{}} }

// load reads what is in a folder, or a file, as flushed.
func load(path string) (*node, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		data, err := os.ReadFile(path)
		return &node{synced: data, size: len(data)}, err
	}
	n := newFolder()
	entries, err := os.ReadDir(path)
	for _, e := range entries {
		child, childErr := load(filepath.Join(path, e.Name()))
		err = errors.Join(err, childErr)
		n.names[e.Name()], n.onDisk[e.Name()] = child, child
	}
	return n, err
}

// clone copies a tree, so that operations can be done to it.
func (n *node) clone() *node {
	if n.names == nil {
		return &node{synced: n.synced, size: n.size}
	}
	c := newFolder()
	for name, child := range n.onDisk {
		c.names[name] = child.clone()
	}
	maps.Copy(c.onDisk, c.names)
	return c
}

// set changes a name in a folder.
func (n *node) set(c change) {
	for name, to := range c {
		if to == nil {
			delete(n.names, name)
		} else {
			n.names[name] = to
		}
	}
	n.changes = append(n.changes, c)
}

// at finds a node by its path below the folder, nil if there is none.
func (m *state) at(path string) *node {
	n := m.root
	for name := range strings.SplitSeq(path, "/") {
		if name != "." && n != nil {
			n = n.names[name]
		}
	}
	return n
}

// parent is the folder that a path lies in, and the name that it has there.
func (m *state) parent(path string) (*node, string) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return m.root, path
	}
	return m.at(path[:i]), path[i+1:]
}

// record remembers what was done to a path, unless that lies elsewhere.
func (d *Disk) record(operation, path string, err error, do func(m *state, path string)) (number int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	below, relErr := filepath.Rel(d.root, path)
	if err != nil || relErr != nil || !filepath.IsLocal(below) {
		return -1
	}
	d.done = append(d.done, func(m *state) { do(m, filepath.ToSlash(below)) })
	d.said = append(d.said, operation+" "+below)
	return len(d.done) - 1
}

func (d *Disk) Create(path string) (atomicfile.Handle, error) {
	h, err := atomicfile.OS.Create(path)
	var number int
	number = d.record("create", path, err, func(m *state, path string) {
		folder, name := m.parent(path)
		n := folder.names[name]
		if n == nil {
			n = &node{}
			folder.set(change{name: n})
		}
		n.pending, n.size = append(n.pending, edit{}), 0
		m.open[number] = n
	})
	return &diskHandle{Handle: h, disk: d, path: path, number: number}, err
}

func (d *Disk) Append(path string) (atomicfile.Handle, error) {
	h, err := atomicfile.OS.Append(path)
	var number int
	number = d.record("append to", path, err, func(m *state, path string) { m.open[number] = m.at(path) })
	return &diskHandle{Handle: h, disk: d, path: path, number: number}, err
}

func (d *Disk) Rename(from, to string) error {
	err := atomicfile.OS.Rename(from, to)
	target, relErr := filepath.Rel(d.root, to)
	d.record("rename", from, errors.Join(err, relErr), func(m *state, path string) {
		before, name := m.parent(path)
		after, newName := m.parent(filepath.ToSlash(target))
		n := before.names[name]
		if before == after {
			before.set(change{name: nil, newName: n})
			return
		}
		before.set(change{name: nil})
		after.set(change{newName: n})
	})
	return err
}

func (d *Disk) Remove(path string) error {
	err := atomicfile.OS.Remove(path)
	d.record("remove", path, err, func(m *state, path string) {
		folder, name := m.parent(path)
		folder.set(change{name: nil})
	})
	return err
}

func (d *Disk) RemoveAll(path string) error {
	_, missing := os.Lstat(path)
	err := atomicfile.OS.RemoveAll(path)
	if missing != nil {
		return err
	}
	d.record("remove all of", path, err, func(m *state, path string) {
		m.at(path).empty()
		folder, name := m.parent(path)
		folder.set(change{name: nil})
	})
	return err
}

// empty removes what is in a folder.
func (n *node) empty() {
	for _, name := range slices.Sorted(maps.Keys(n.names)) {
		n.names[name].empty()
		n.set(change{name: nil})
	}
}

func (d *Disk) MkdirAll(path string) error {
	err := atomicfile.OS.MkdirAll(path)
	d.record("make folder", path, err, func(m *state, path string) {
		n := m.root
		for name := range strings.SplitSeq(path, "/") {
			if name == "." {
				continue
			}
			if n.names[name] == nil {
				n.set(change{name: newFolder()})
			}
			n = n.names[name]
		}
	})
	return err
}

func (d *Disk) SyncDir(path string) error {
	err := atomicfile.OS.SyncDir(path)
	d.record("sync folder", path, err, func(m *state, path string) {
		n := m.at(path)
		n.onDisk, n.changes = maps.Clone(n.names), nil
	})
	return err
}

type diskHandle struct {
	atomicfile.Handle
	disk   *Disk
	path   string
	number int // of the operation that opened it
}

func (h *diskHandle) Write(p []byte) (int, error) {
	n, err := h.Handle.Write(p)
	if n == 0 {
		return n, err
	}
	data := slices.Clone(p[:n])
	h.disk.record("write", h.path, nil, func(m *state, _ string) {
		f := m.open[h.number]
		f.pending = append(f.pending, edit{at: f.size, data: data})
		f.size += n
	})
	return n, err
}

func (h *diskHandle) Sync() error {
	err := h.Handle.Sync()
	h.disk.record("sync", h.path, err, func(m *state, _ string) {
		f := m.open[h.number]
		f.synced, f.pending = f.content(), nil
	})
	return err
}

// edited is content after edits.
func edited(content []byte, edits []edit) []byte {
	content = slices.Clone(content)
	for _, e := range edits {
		if e.data == nil {
			content = content[:0]
			continue
		}
		if missing := e.at + len(e.data) - len(content); missing > 0 {
			content = append(content, make([]byte, missing)...)
		}
		copy(content[e.at:], e.data)
	}
	return content
}

// content is what programs see of a file.
func (n *node) content() []byte { return edited(n.synced, n.pending) }

// Crash writes what the disk may have after the first n operations and a loss of
// power into dir, which is made. What is lost is drawn from rng.
func (d *Disk) Crash(n int, rng *rand.Rand, dir string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	m := &state{root: d.base.clone(), open: map[int]*node{}}
	for _, do := range d.done[:n] {
		do(m)
	}
	return m.root.write(rng, dir)
}

func (n *node) write(rng *rand.Rand, path string) error {
	if n.names == nil {
		return os.WriteFile(path, n.left(rng), 0o666)
	}
	if err := os.MkdirAll(path, 0o777); err != nil {
		return err
	}
	names := maps.Clone(n.onDisk)
	for _, c := range some(rng, n.changes) {
		for name, to := range c {
			delete(names, name)
			if to != nil {
				names[name] = to
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if err := names[name].write(rng, filepath.Join(path, name)); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// some are none, all, the first or any of what was not flushed.
func some[T any](rng *rand.Rand, all []T) []T {
	switch rng.IntN(4) {
	case 0:
		return nil
	case 1:
		return all
	case 2:
		return all[:rng.IntN(len(all)+1)]
	}
	var chosen []T
	for _, v := range all {
		if rng.IntN(2) == 0 {
			chosen = append(chosen, v)
		}
	}
	return chosen
}

// left is what may be left of a file.
func (n *node) left(rng *rand.Rand) []byte {
	if rng.IntN(5) == 0 { // a length without content
		whole := n.content()
		return append(slices.Clone(n.synced[:min(len(n.synced), len(whole))]), make([]byte, max(0, len(whole)-len(n.synced)))...)
	}
	const page = 4096
	var pages []edit
	for _, e := range n.pending {
		if e.data == nil {
			pages = append(pages, e)
		}
		for from := 0; from < len(e.data); {
			to := min(len(e.data), from+page-(e.at+from)%page)
			pages = append(pages, edit{at: e.at + from, data: e.data[from:to]})
			from = to
		}
	}
	kept := some(rng, pages)
	if last := len(kept) - 1; last >= 0 && len(kept[last].data) > 1 && rng.IntN(2) == 0 { // torn
		kept = slices.Clone(kept)
		kept[last].data = kept[last].data[:1+rng.IntN(len(kept[last].data)-1)]
	}
	return edited(n.synced, kept)
}

// Tries is how often a test cuts the power at each operation: 1, or what
// PIXPRO_POWERCUTS says.
func Tries() int {
	if n, err := strconv.Atoi(os.Getenv("PIXPRO_POWERCUTS")); err == nil && n > 0 {
		return n
	}
	return 1
}
