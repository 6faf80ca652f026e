// Package pipeline turns shards into Arrow record batches of view pairs.
//
// [Open] starts goroutines in four stages with bounded queues between them:
// one decides the order and makes empty batches, some read encoded images,
// workers decode each image and write both of its views straight into the
// batch's Arrow buffers, at the image's place in the batch, and Next, on the
// consumer's goroutine, completes batches in order. The memory of pixels
// comes from a pool of Config.Batches and returns to it when the last
// reference to a record is released; there is never more.
//
// The order is a permutation computed sample by sample from (seed, epoch), and
// all else that is drawn comes from (seed, epoch, dataset index, view). The
// stream is therefore the same bytes for any number of workers, and a
// [Position] is all that it takes to continue it.
package pipeline
