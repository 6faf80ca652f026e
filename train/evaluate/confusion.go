package evaluate

import "math"

// Confusion counts pixels by their true class (row) and predicted class
// (column).
type Confusion struct {
	classes int
	counts  []int64 // classes x classes
}

// NewConfusion returns an empty matrix.
func NewConfusion(classes int) *Confusion {
	return &Confusion{classes, make([]int64, classes*classes)}
}

// Add counts n pixels of a class that were predicted as another or the same.
func (c *Confusion) Add(truth, predicted int, n int64) { c.counts[truth*c.classes+predicted] += n }

// Merge adds the counts of other, a matrix of as many classes.
func (c *Confusion) Merge(other *Confusion) {
	for i, n := range other.counts {
		c.counts[i] += n
	}
}

// Scores are the usual figures of a segmentation.
type Scores struct {
	// MeanIoU is the mean of IoU over the classes that have one.
	MeanIoU float64 `json:"miou"`
	// Accuracy is the part of the pixels that are right.
	Accuracy float64 `json:"pixel_accuracy"`
	// IoU is intersection over union of each class's true and predicted pixels;
	// nil for a class that is in neither.
	IoU []*float64 `json:"iou"`
}

// Scores computes the figures. Without any pixel, mean and accuracy are NaN.
func (c *Confusion) Scores() Scores {
	s := Scores{IoU: make([]*float64, c.classes)}
	var sum float64
	var present, right, total int64
	for class := range c.classes {
		var truth, predicted int64
		for i := range c.classes {
			truth += c.counts[class*c.classes+i]
			predicted += c.counts[i*c.classes+class]
		}
		hit := c.counts[class*c.classes+class]
		right, total = right+hit, total+truth
		if union := truth + predicted - hit; union > 0 {
			iou := float64(hit) / float64(union)
			s.IoU[class] = &iou
			sum += iou
			present++
		}
	}
	if total == 0 {
		s.MeanIoU, s.Accuracy = math.NaN(), math.NaN()
		return s
	}
	s.MeanIoU, s.Accuracy = sum/float64(present), float64(right)/float64(total)
	return s
}
