package options

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Section is the options of one method.
type Section interface {
	// Rows are the section's options, bound to its fields.
	Rows() []Row
}

// Validator is a Section with checks of options beside others; Validate is
// called where its method is chosen.
type Validator interface {
	Validate(o *Options) error
}

// section is a method's Section in an Options.
type section struct {
	method string
	Section
}

// registered is what is known of a method here.
type registered struct {
	name, help string
	defaults   func() Section
}

var (
	methodsMutex sync.Mutex
	methods      []registered // by name
)

// RegisterMethod makes a method known as a value of the option method, with
// options of its own. Package method calls it.
func RegisterMethod(name, help string, defaults func() Section) {
	methodsMutex.Lock()
	defer methodsMutex.Unlock()
	at, twice := slices.BinarySearchFunc(methods, name, func(m registered, name string) int { return cmp.Compare(m.name, name) })
	if twice || name == "" {
		panic(fmt.Sprintf("options: method %q is registered twice, or has no name", name))
	}
	methods = slices.Insert(methods, at, registered{name, help, defaults})
}

// registeredMethods is a copy of the list.
func registeredMethods() []registered {
	methodsMutex.Lock()
	defer methodsMutex.Unlock()
	return slices.Clone(methods)
}

// Methods lists the methods that are registered.
func Methods() []string {
	var names []string
	for _, m := range registeredMethods() {
		names = append(names, m.name)
	}
	return names
}

// methodsHelp is the help of the option method.
func methodsHelp() string {
	var list []string
	for _, m := range registeredMethods() {
		list = append(list, fmt.Sprintf("%s (%s)", m.name, m.help))
	}
	return strings.Join(list, ", ")
}

// newSections are all methods' options with their defaults.
func newSections() []section {
	var list []section
	for _, m := range registeredMethods() {
		list = append(list, section{m.name, m.defaults()})
	}
	return list
}

// SectionOf is the options of a method, nil if there is no such method.
func (o *Options) SectionOf(method string) Section {
	o.Rows() // makes the sections of an Options that is not from Default
	for _, s := range o.sections {
		if s.method == method {
			return s.Section
		}
	}
	return nil
}
