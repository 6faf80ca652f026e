package options

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Group is the heading under which an option stands in help and docs.
type Group string

// The groups, in the order of help and docs.
const (
	Data      Group = "data"
	Views     Group = "views"
	Model     Group = "model"
	Method    Group = "method"
	Optimiser Group = "optimiser"
	Run       Group = "run"
)

// Groups lists the groups in the order of help and docs.
func Groups() []Group { return []Group{Data, Views, Model, Method, Optimiser, Run} }

// Row is an option of one set of options: it reads and writes the field that it
// was made with. It is a pflag.Value.
type Row struct {
	Name  string // as a flag, behind "--", and as a key in YAML files
	Group Group
	Help  string
	// Change says that a run that goes on from a checkpoint may have another
	// value than the run had that wrote it.
	Change bool
	// Local says that the option is about this start of the program and not
	// kept in checkpoints.
	Local bool

	field any // pointer
	check func() string
}

// Value is what options can be.
type Value interface {
	~string | int | uint64 | float64 | bool | []int | time.Duration | Interval
}

// Check says what an option may be, such as "must be above 0", if v is not that,
// and otherwise nothing.
type Check[T Value] func(v T) string

// New is the row of an option in a field, whose value now is the default. A
// resumed run may not change it, unless the row is made MayChange.
func New[T Value](name string, field *T, help string, checks ...Check[T]) Row {
	return Row{Name: name, Group: Method, Help: help, field: field, check: func() string {
		for _, check := range checks {
			if want := check(*field); want != "" {
				return want
			}
		}
		return ""
	}}
}

// In returns the row in another group than Method.
func (r Row) In(g Group) Row {
	r.Group = g
	return r
}

// MayChange returns the row as one that a resumed run may change.
func (r Row) MayChange() Row {
	r.Change = true
	return r
}

// NotSaved returns the row as one that checkpoints do not keep.
func (r Row) NotSaved() Row {
	r.Change, r.Local = true, true
	return r
}

// AtLeast refuses values below least, and what is no number.
func AtLeast[T int | float64 | time.Duration](least T) Check[T] {
	return func(v T) string {
		if v >= least && !infinite(float64(v)) {
			return ""
		}
		return fmt.Sprintf("must be at least %v", least)
	}
}

// Above refuses values that are not above limit.
func Above(limit float64) Check[float64] {
	return func(v float64) string {
		if v > limit && !infinite(v) {
			return ""
		}
		return fmt.Sprintf("must be above %v", limit)
	}
}

func infinite(v float64) bool { return v-v != 0 }

// Within refuses values that are not from least to most.
func Within[T int | float64](least, most T) Check[T] {
	return func(v T) string {
		if v >= least && v <= most {
			return ""
		}
		return fmt.Sprintf("must be from %v to %v", least, most)
	}
}

// Fraction refuses values that are not at least 0 and below 1.
func Fraction(v float64) string {
	if v >= 0 && v < 1 {
		return ""
	}
	return "must be at least 0 and below 1"
}

// OneOf refuses all but the given names.
func OneOf[T ~string](names ...T) Check[T] {
	return func(v T) string {
		if slices.Contains(names, v) {
			return ""
		}
		return "use " + alternatives(names)
	}
}

// alternatives writes a list as "a, b or c".
func alternatives[T ~string](names []T) string {
	var b strings.Builder
	for i, n := range names {
		switch {
		case i > 0 && i == len(names)-1:
			b.WriteString(" or ")
		case i > 0:
			b.WriteString(", ")
		}
		b.WriteString(string(n))
	}
	return b.String()
}

// Error is an option that cannot be used.
type Error struct {
	Name  string // of the option
	Value string // as it is written on a command line
	Want  string // what it may be
}

// Error names the option, its value, and what it may be.
func (e *Error) Error() string {
	value := e.Value
	if value == "" {
		value = `""`
	}
	return fmt.Sprintf("option %s %s: %s", e.Name, value, e.Want)
}

// bad is the error of a row's present value.
func (r Row) bad(want string) *Error { return &Error{Name: r.Name, Value: r.String(), Want: want} }

// Check returns an *Error if the present value cannot be used.
func (r Row) Check() error {
	if want := r.check(); want != "" {
		return r.bad(want)
	}
	return nil
}

// String is the present value as it is written on a command line. It
// implements pflag.Value.
func (r Row) String() string {
	switch v := reflect.ValueOf(r.field); {
	case r.field == nil:
		return "" // pflag asks a zero Row
	case v.Elem().Kind() == reflect.Slice:
		return strings.Trim(strings.ReplaceAll(fmt.Sprint(v.Elem()), " ", ","), "[]")
	default:
		return fmt.Sprint(v.Elem())
	}
}

// Type is what help calls the value. It implements pflag.Value.
func (r Row) Type() string {
	switch r.field.(type) {
	case *int:
		return "int"
	case *uint64:
		return "uint"
	case *float64:
		return "float"
	case *bool:
		return "bool"
	case *[]int:
		return "ints"
	case *time.Duration:
		return "duration"
	case *Interval:
		return "interval"
	}
	return "string"
}

// Set sets the field to a value as it is written on a command line; it does
// not Check. It implements pflag.Value.
func (r Row) Set(s string) error {
	var err error
	switch p := r.field.(type) {
	case *int:
		*p, err = parsed(strconv.Atoi(s))("must be a whole number")
	case *uint64:
		*p, err = parsed(strconv.ParseUint(s, 10, 64))("must be a whole number that is not negative")
	case *float64:
		*p, err = parsed(strconv.ParseFloat(s, 64))("must be a number")
	case *bool:
		*p, err = parsed(strconv.ParseBool(s))("must be true or false")
	case *[]int:
		var list []int
		for text := range strings.SplitSeq(s, ",") {
			n, e := parsed(strconv.Atoi(strings.TrimSpace(text)))("must be whole numbers, with commas between them")
			if e != nil && s != "" {
				return e
			}
			if s != "" {
				list = append(list, n)
			}
		}
		*p = list
	case *time.Duration:
		*p, err = parsed(time.ParseDuration(s))("must be a duration such as 30s or 5m")
	case *Interval:
		*p, err = ParseInterval(s)
	default: // a kind of string
		reflect.ValueOf(r.field).Elem().SetString(s)
	}
	return err
}

// parsed says in place of strconv what a value may be.
func parsed[T any](v T, err error) func(want string) (T, error) {
	return func(want string) (T, error) {
		if err != nil {
			return v, errors.New(want)
		}
		return v, nil
	}
}

// equal says whether two rows of the same option have the same value.
func (r Row) equal(other Row) bool {
	return reflect.DeepEqual(reflect.ValueOf(r.field).Elem().Interface(), reflect.ValueOf(other.field).Elem().Interface())
}

// copyFrom sets the field to the value of another row of the same option.
func (r Row) copyFrom(other Row) {
	v := reflect.ValueOf(other.field).Elem()
	if v.Kind() == reflect.Slice {
		v = reflect.AppendSlice(reflect.MakeSlice(v.Type(), 0, v.Len()), v)
	}
	reflect.ValueOf(r.field).Elem().Set(v)
}

// node is the value in YAML.
func (r Row) node() (*yaml.Node, error) {
	n := new(yaml.Node)
	if err := n.Encode(reflect.ValueOf(r.field).Elem().Interface()); err != nil {
		return nil, err
	}
	if n.Kind == yaml.SequenceNode {
		n.Style = yaml.FlowStyle
	}
	return n, nil
}
