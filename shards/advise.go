package shards

import "unsafe"

// Prefetch asks the system to read the image of sample i from the disk, so
// that it is in memory when Sample is called. It is advice: nothing depends on
// its success, and what is wrong with the sample is for Sample to say. It does
// not wait for the image, but for the shard's metadata at the shard's first
// use.
func (d *Dataset) Prefetch(i int64) {
	image, s := d.encoded(i)
	if image == nil {
		return
	}
	from := s.offset(image)
	willNeed(s.data, from, from+len(image))
}

// forgetBytes of images are forgotten at once: telling the system costs about
// as much for one image as for many.
const forgetBytes = 32 << 20

// Forget says that the image of a sample is not needed any more: its memory goes
// to other images.
func (d *Dataset) Forget(sample Sample) { sample.free() }

// copied says that n bytes of images were copied out of the memory maps. What was
// read does not go on counting as this process's memory: now and then, the system
// is told so of all.
func (d *Dataset) copied(n int64) {
	if d.used.Add(n) < forgetBytes || d.used.Swap(0) < forgetBytes {
		return
	}
	for _, s := range d.shards {
		if s.mapped.Load() {
			forget(s.data, 0, len(s.data))
		}
	}
}

// encoded is the image of sample i, unchecked, and its shard; nil if there is
// none to be found.
func (d *Dataset) encoded(i int64) (image []byte, s *shard) {
	if d.closed.Load() || i < 0 || i >= d.manifest.Rows {
		return nil, nil
	}
	n, row := d.locate(i)
	s = d.shards[n]
	if s.ready() != nil {
		return nil, nil
	}
	err := s.guarded(func() error {
		n, within := s.file.locate(row)
		b, err := s.file.batch(n)
		if err != nil {
			return err
		}
		image, err = b.columns[colImage].bytes(within)
		return err
	})
	if err != nil || len(image) == 0 {
		return nil, nil
	}
	return image, s
}

// offset is where a part of the shard's memory map begins.
func (s *shard) offset(part []byte) int {
	return int(uintptr(unsafe.Pointer(unsafe.SliceData(part))) - uintptr(unsafe.Pointer(unsafe.SliceData(s.data))))
}
