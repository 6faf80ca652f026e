// Package shards stores a dataset of encoded images in a few large files and
// reads any of them back at random.
//
// A dataset is a folder of shards, shard-00000.arrow, shard-00001.arrow, …,
// and a manifest.json. A shard is an Arrow IPC file with one row an image (see
// [Schema]); any Arrow reader opens it. The image bytes are stored as they
// came. The manifest lists the classes and every shard's rows, bytes and
// SHA-256; it is written last, so a folder without one is not a dataset.
//
// [Write] turns inputs into shards. Each is a source: a folder, a tar, a zip, a
// WebDataset, a list of paths or a kind of another module (package ingest), which is listed whole, joined with
// the others and put in order (listing.go). Workers read files, parse headers
// and compute checksums ahead, within a bounded window (readahead.go,
// examine.go), and one goroutine writes their results in order, so that the
// bytes do not depend on the number of workers. Every file appears under its
// name when complete; what is finished is noted in sharding.json, from which an
// interrupted run is resumed.
//
// [Open] memory-maps shards. It reads the Arrow metadata itself, with every
// offset checked against the file, so that a sample's bytes alias the map and
// a damaged file is a [CorruptError]. [Verify] checks everything there is to
// check and names every fault.
package shards
