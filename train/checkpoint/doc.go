// Package checkpoint saves a training run, finds what was saved, and tells what
// is sound.
//
// A training output holds folders checkpoints/step-N and checkpoints/latest, a
// text file with the name of the newest. A checkpoint is written under a
// temporary name, flushed, and renamed: what has a checkpoint's name is whole.
// Its state.json has the sizes and SHA-256 of the other files, and a SHA-256 of
// its own.
package checkpoint
