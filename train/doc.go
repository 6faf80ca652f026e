// Package train pre-trains an encoder on record batches of view pairs.
//
//	New     builds the model on a device, or restores it from a checkpoint
//	Run     takes batches from a Source until it ends: for each, gradients of
//	        the loss, one step of the optimiser, one line of metrics.jsonl and an
//	        event for TensorBoard, and now and then a checkpoint
//	MakePlan says what a run will take, without computing
//
// A checkpoint holds all that the next step depends on, the position in the
// stream of batches included, so that a run that was stopped goes on with the
// same losses, bit for bit, on the same kind of processor, whatever the number of threads.
package train
