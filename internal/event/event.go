// Package event is how all packages tell what they do: one listener gets
// events, each a type of the package that sends it. The public packages name
// Event and Listener as their own (shards.Event, pipeline.Listener, …), so that
// one function can listen to all of them.
package event

// Event is something that happened, in one sentence. What it was is its type:
//
//	switch e := e.(type) {
//	case pipeline.BadSample: …
//	case train.StepDone: …
//	}
type Event interface{ String() string }

// Listener is told of events, in the order in which they happen and never by
// two goroutines at once. It must not call what sends them. nil listens to none.
type Listener func(Event)

// Tell passes an event on.
func (l Listener) Tell(e Event) {
	if l != nil {
		l(e)
	}
}
