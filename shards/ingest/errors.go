package ingest

import "fmt"

// RejectError is the fault of one file, which cannot become an image of a
// dataset. It is listed among the rejected files if its name promises an image.
type RejectError struct {
	Reason string
	Wanted bool // list it whatever its name
}

func (e *RejectError) Error() string { return e.Reason }

// ChangedError is the error of an input or a file that is no longer what was
// listed.
type ChangedError struct{ Name string }

func (e *ChangedError) Error() string { return fmt.Sprintf("%s changed while it was read", e.Name) }
