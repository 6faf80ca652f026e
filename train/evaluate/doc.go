// Package evaluate measures what an encoder's features are worth at every
// pixel, without a detection framework.
//
//	Extractor  feature maps of many images, the same as pixpro features gives
//	Folder     images with masks of class indices; MaskFiles those of images elsewhere
//	Segment    a classifier of cells on frozen features: mIoU, pixel accuracy
//	Cluster    k-means of cells, matched with classes: mIoU without training
//	Neighbors  classes of whole images by their nearest neighbours
//	Matcher    whether a cell finds its place again in another view
//	Components the principal components of features, Similarity to a cell
//
// Everything is deterministic for a seed: images go through the encoder one by
// one, each on one thread, and what goroutines compute is summed in an order
// of its own.
package evaluate
