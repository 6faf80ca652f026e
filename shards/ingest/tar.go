package ingest

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
)

func init() {
	Register("tar", Kind{
		Help:   "such a folder in a tar, or a tar of one tar a class, as ImageNet's",
		Detect: func(in *Input) bool { return isTar(in.Head) },
		Open: func(_ context.Context, in *Input) (Source, error) {
			return &tarSource{Archive: in.Archive}, in.NeedArchive("tar")
		},
	})
	Register("webdataset", Kind{ // a tar with .cls files is one by itself
		Help: "a tar with NAME.cls or NAME.cls.txt for the class of NAME.jpg",
		Open: func(_ context.Context, in *Input) (Source, error) {
			return &tarSource{Archive: in.Archive, webDataset: true}, in.NeedArchive("webdataset")
		},
	})
}

const tarBlock = 512

// tarSource is a tar of images, or of one tar a class, as ImageNet's training
// images come. It is listed by its headers and read at any place.
type tarSource struct {
	*Archive
	webDataset bool // whatever it holds
}

func (s *tarSource) List(ctx context.Context) (*Contents, error) {
	l := tarLister{ctx: ctx, archive: s.Archive}
	if err := l.walk(0, s.size, "", ""); err != nil {
		return nil, s.damaged(err)
	}
	l.resolveLinks()
	if s.webDataset || l.classFiles {
		if err := s.labelSamples(&l.out); err != nil {
			return nil, fmt.Errorf("%s: %w", s.path, err)
		}
	}
	return &l.out, nil
}

func (s *tarSource) Open(f *File) (io.ReadCloser, int64, error) {
	return io.NopCloser(io.NewSectionReader(s.Archive, f.At, f.Size)), f.Size, nil
}

type tarLister struct {
	ctx        context.Context
	archive    io.ReaderAt
	out        Contents
	links      []tarLink
	classFiles bool // there are .cls files
}

// tarLink is a file that has its content elsewhere in the archive.
type tarLink struct{ key, target, class string }

// walk lists the tar of size bytes at offset base, and the tars that were
// appended to it. For a tar within the tar, dir is the folder that stands for
// it and class the class of all its files.
func (l *tarLister) walk(base, size int64, dir, class string) error {
	for at := int64(0); ; {
		length, err := l.walkOne(base+at, size-at, dir, class)
		if err != nil {
			return err
		}
		at += length
		next, err := l.afterZeros(base+at, base+size)
		if err != nil || next < 0 {
			return err
		}
		at = next - base
	}
}

// afterZeros returns where a tar goes on after the mark of its end, which ends
// at from, and -1 if it does not. Archives that were joined, or appended to by
// other means than tar's own, have such marks in their middle.
func (l *tarLister) afterZeros(from, to int64) (int64, error) {
	buf := make([]byte, 64*tarBlock)
	for from < to {
		if err := l.ctx.Err(); err != nil {
			return 0, err
		}
		n, err := l.archive.ReadAt(buf[:min(int64(len(buf)), to-from)], from)
		if n == 0 {
			return 0, fmt.Errorf("at byte %d: %w", from, err)
		}
		content := n - len(withoutZeros(buf[:n]))
		if content == n {
			from += int64(n)
			continue
		}
		block := content / tarBlock * tarBlock
		if !isTar(buf[block:n]) {
			return 0, fmt.Errorf("what follows the mark of the end, at byte %d, is no tar: cut the file there if it is not needed (truncate -s %d)", from+int64(content), from+int64(block))
		}
		return from + int64(block), nil
	}
	return -1, nil
}

// walkOne lists the tar that begins at offset base, and returns how far it
// reaches, with the mark of its end.
func (l *tarLister) walkOne(base, size int64, dir, class string) (length int64, err error) {
	section := io.NewSectionReader(l.archive, base, size)
	r := tar.NewReader(section)
	end := int64(0) // of the file before
	for {
		if err := l.ctx.Err(); err != nil {
			return 0, err
		}
		h, err := r.Next()
		// The tar reader has no buffer of its own: this is where the content is.
		at, seekErr := section.Seek(0, io.SeekCurrent)
		if seekErr != nil {
			return 0, seekErr
		}
		if err == io.EOF {
			if at == end {
				return 0, fmt.Errorf("the mark of the end is missing after byte %d (if nothing else is, append 1024 zero bytes)", base+at)
			}
			return at, nil
		}
		if errors.Is(err, tar.ErrHeader) && l.halfMark(base, at) {
			return at - tarBlock, nil
		}
		if err != nil {
			return 0, fmt.Errorf("at byte %d: %w", base+at, err)
		}
		key := archiveKey(path.Join(dir, h.Name))
		in := class
		if in == "" {
			in = FolderClass(key)
		}
		switch h.Typeflag {
		case tar.TypeReg, tar.TypeGNUSparse, tar.TypeCont:
			end = at + (h.Size+tarBlock-1)/tarBlock*tarBlock
			if err := l.file(h, File{Key: key, At: base + at, Size: h.Size}, in, dir); err != nil {
				return 0, err
			}
		case tar.TypeLink:
			l.links = append(l.links, tarLink{key, archiveKey(path.Join(dir, h.Linkname)), in})
			end = at
		case tar.TypeSymlink:
			l.links = append(l.links, tarLink{key, archiveKey(path.Join(path.Dir(key), h.Linkname)), in})
			end = at
		case tar.TypeDir, tar.TypeXGlobalHeader:
			end = at
		default:
			l.out.Skipped++
			end = at
		}
	}
}

// halfMark reports whether the tar at base has one block of zeros, where the
// mark of the end has two, and another header before offset at.
func (l *tarLister) halfMark(base, at int64) bool {
	blocks := make([]byte, 2*tarBlock)
	if at < int64(len(blocks)) {
		return false
	}
	if _, err := l.archive.ReadAt(blocks, base+at-int64(len(blocks))); err != nil {
		return false
	}
	zeros, header := blocks[:tarBlock], blocks[tarBlock:]
	return len(withoutZeros(zeros)) == 0 && len(withoutZeros(header)) > 0 && isTar(header)
}

func withoutZeros(b []byte) []byte { return bytes.TrimLeft(b, "\x00") }

func (l *tarLister) file(h *tar.Header, f File, class, dir string) error {
	sparse := h.Typeflag == tar.TypeGNUSparse
	for name := range h.PAXRecords {
		sparse = sparse || strings.HasPrefix(name, "GNU.sparse.")
	}
	name, isTarName := cutSuffixFold(f.Key, ".tar")
	switch {
	case sparse:
		f.Fault = FaultSparse
	case isClassFile(f.Key):
		l.classFiles = true
	case dir == "" && isTarName:
		head := make([]byte, tarBlock)
		if n, err := l.archive.ReadAt(head, f.At); err != nil && (err != io.EOF || int64(n) < min(f.Size, tarBlock)) {
			return err
		}
		if f.Size >= tarBlock && isTar(head) {
			if err := l.walk(f.At, f.Size, name, path.Base(name)); err != nil {
				return fmt.Errorf("%s: %w", f.Key, err)
			}
			return nil
		}
	}
	l.out.Add(f, class)
	return nil
}

// resolveLinks adds the links, with the content of what they lead to.
func (l *tarLister) resolveLinks() {
	if len(l.links) == 0 {
		return
	}
	const chain = 8 // links to links that are followed
	at := make(map[string]int, len(l.out.Files))
	for i, f := range l.out.Files {
		at[f.Key] = i
	}
	targets := make(map[string]string, len(l.links))
	for _, k := range l.links {
		targets[k.key] = k.target
	}
	for _, k := range l.links {
		f := File{Key: k.key, Fault: FaultLink}
		target := k.target
		for range chain {
			if i, found := at[target]; found {
				f.At, f.Size, f.Fault = l.out.Files[i].At, l.out.Files[i].Size, l.out.Files[i].Fault
				break
			}
			target = targets[target]
		}
		if f.Fault == FaultLink && !HasImageExtension(k.key) {
			l.out.Skipped++ // a link to a folder, most likely
			continue
		}
		l.out.Add(f, k.class)
	}
}

// archiveKey is the key for a name in an archive: within it, without dots.
func archiveKey(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

// isTar reports whether the block is the header of a tar: it has a checksum,
// taken with the checksum's own place full of spaces. An empty tar begins with
// a block of zeros.
func isTar(block []byte) bool {
	if len(block) < tarBlock {
		return false
	}
	const start, end = 148, 156
	var sum int64
	for i, b := range block[:tarBlock] {
		if i >= start && i < end {
			b = ' '
		}
		sum += int64(b)
	}
	if sum == (end-start)*' ' {
		return true
	}
	recorded, err := strconv.ParseInt(string(bytes.Trim(block[start:end], " \x00")), 8, 64)
	return err == nil && recorded == sum
}

// labelSamples makes the files the samples of a WebDataset. The class of
// NAME.jpg is the content of NAME.cls; NAME.seg.png beside NAME.jpg belongs to
// it and is no image of its own.
func (s *tarSource) labelSamples(c *Contents) error {
	values := map[string]string{}
	images := map[string]bool{}
	for i := range c.Files {
		f := &c.Files[i]
		name, extension := sampleName(f.Key)
		switch {
		case isClassFile(f.Key):
			value, err := s.classFile(f)
			if err != nil {
				return err
			}
			sample, _ := cutClass(f.Key)
			values[sample] = value
		case isPlain(extension) && HasImageExtension(extension):
			images[name] = true
		}
	}
	files := c.Files[:0]
	for _, f := range c.Files {
		name, extension := sampleName(f.Key)
		switch {
		case isClassFile(f.Key):
		case images[name] && !(isPlain(extension) && HasImageExtension(extension)):
			c.Skipped++
		default:
			files = append(files, f)
		}
	}
	c.Files = files
	return c.Relabel(func(key string) (string, bool) {
		value, found := values[strings.TrimSuffix(key, path.Ext(key))]
		if !found {
			name, _ := sampleName(key)
			value, found = values[name]
		}
		return value, found
	})
}

// sampleName splits a key at the first dot of the file's name, as the
// WebDataset format has it.
func sampleName(key string) (name, extension string) {
	dir, base := path.Split(key)
	if i := strings.IndexByte(base, '.'); i > 0 {
		return dir + base[:i], base[i:]
	}
	return key, ""
}

// cutClass returns the name of the sample whose class is in the file. As in
// the WebDataset library, case does not matter.
func cutClass(key string) (sample string, isClass bool) {
	if sample, isClass = cutSuffixFold(key, ".cls"); !isClass {
		sample, isClass = cutSuffixFold(key, ".cls.txt")
	}
	return sample, isClass
}

func isClassFile(key string) bool {
	_, isClass := cutClass(key)
	return isClass
}

// cutSuffixFold is strings.CutSuffix for a suffix in any case.
func cutSuffixFold(s, suffix string) (before string, found bool) {
	i := len(s) - len(suffix)
	if i < 0 || !strings.EqualFold(s[i:], suffix) {
		return s, false
	}
	return s[:i], true
}

// isPlain tells .png from .seg.png.
func isPlain(extension string) bool { return strings.LastIndexByte(extension, '.') == 0 }

// classFile reads a .cls file: a number or a name.
func (s *tarSource) classFile(f *File) (string, error) {
	const most = 1 << 10
	if f.Fault != FaultNone || f.Size > most {
		return "", fmt.Errorf("%s: is no class of at most %d bytes", f.Key, most)
	}
	value := make([]byte, f.Size)
	if n, err := s.ReadAt(value, f.At); n < len(value) {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return "", fmt.Errorf("%s: %w", f.Key, err)
	}
	return string(bytes.TrimSpace(value)), nil
}
