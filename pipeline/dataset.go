package pipeline

import "github.com/seed-436d2970/pixpro/shards"

// Dataset is where encoded images come from; *shards.Dataset is one. Its
// methods are called from several goroutines at once.
type Dataset interface {
	// Len is the number of samples, which have the rows 0 to Len-1.
	Len() int64
	// Sample reads a sample; its Index need not be set. An error of class
	// *shards.CorruptError concerns that sample alone, which is left out; any other
	// ends the stream.
	Sample(row int64) (shards.Sample, error)
	// Prefetch says that a sample will be read soon; it does not wait for it.
	Prefetch(row int64)
	// Forget says that a sample's image is not needed any more.
	Forget(s shards.Sample)
	// Digest tells datasets of other contents apart. A run is resumed on a
	// dataset of the same digest only.
	Digest() string
}

// ShardedDataset is a Dataset that is fastest read in parts: ShuffleWindow reads
// each from its first row to its last. Others are read as one part.
type ShardedDataset interface {
	Dataset
	// ShardRows are the numbers of rows of the parts, which add up to Len.
	ShardRows() []int64
}

var _ ShardedDataset = (*shards.Dataset)(nil)
