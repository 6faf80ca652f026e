// Package ingest reads the inputs that shards are made of: folders, tars, zips,
// WebDatasets, lists of paths, and kinds that others register.
//
// A [Source] is one input. It lists its files, with their classes where it knows
// them, and opens any of them, in any order and from several goroutines; the
// content of a file decides whether it is an image. A [Kind] recognises and
// opens inputs; the built-in ones are a file of this package each, and a kind of
// another module is registered in the same way, before shards.Write is called:
//
//	func init() { ingest.Register("mykind", ingest.Kind{…}) }
//
// A file that is itself at fault is a [RejectError], and a dataset can do
// without some of those; any other error ends the run.
package ingest
