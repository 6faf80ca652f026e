// Package figure draws the project's pictures: pairs of views with matching
// cells joined (pairs.go), the loss curve of a run (loss.go), and what encoders
// see in images (features.go).
//
// A picture of pairs shows, one pair a row, the source image with both crops
// marked and the two views with their grids of cells. Which cells match is
// decided as the losses decide it (cells.go), and some of them are joined by
// lines: both ends of a line, and its two marks in the source image, must show
// the same thing, or the coordinates are wrong. Shapes are filled with
// anti-aliased edges and text is set in the Go fonts (page.go), so that the
// same pairs give the same picture everywhere.
package figure
