package options

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/seed-436d2970/pixpro/internal/suggest"
)

// ReadFile reads a YAML file over the options. Keys are the options' names;
// unknown and repeated ones are errors. Values are not checked: see Validate.
func (o *Options) ReadFile(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("options: %w", err)
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var document yaml.Node
	if err := dec.Decode(&document); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("options: %s: %w", path, err)
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("options: %s: a second document follows the first", path)
	}
	if len(document.Content) == 0 {
		return nil // an empty file
	}
	if err := document.Content[0].Decode(o); err != nil {
		return fmt.Errorf("options: %s: %w", path, err)
	}
	return nil
}

// UnmarshalYAML reads a mapping of names to values over the options. It
// implements yaml.Unmarshaler.
func (o *Options) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: options are lines of NAME: VALUE", n.Line)
	}
	rows := map[string]Row{}
	for _, r := range o.Rows() {
		rows[r.Name] = r
	}
	seen := map[string]bool{}
	for i := 0; i < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		r, ok := rows[key.Value]
		switch {
		case !ok:
			return fmt.Errorf("line %d: there is no option %q%s", key.Line, key.Value, suggest.For(key.Value, "", slices.Sorted(maps.Keys(rows))))
		case seen[key.Value]:
			return fmt.Errorf("line %d: option %s is given twice", key.Line, key.Value)
		}
		seen[key.Value] = true
		if t := r.Type(); (t == "int" || t == "uint") && value.ShortTag() == "!!float" {
			return fmt.Errorf("line %d: option %s: %s is no whole number", key.Line, key.Value, value.Value)
		}
		if err := value.Decode(r.field); err != nil {
			return fmt.Errorf("line %d: option %s: %w", key.Line, key.Value, err)
		}
	}
	return nil
}

// MarshalYAML writes the options that checkpoints keep. Texts that are empty
// are left out. It implements yaml.Marshaler.
func (o Options) MarshalYAML() (any, error) {
	mapping := &yaml.Node{Kind: yaml.MappingNode}
	for _, r := range o.Rows() {
		if r.Local || reflect.ValueOf(r.field).Elem().Kind() == reflect.String && r.String() == "" {
			continue
		}
		value, err := r.node()
		if err != nil {
			return nil, fmt.Errorf("options: %s: %w", r.Name, err)
		}
		mapping.Content = append(mapping.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: r.Name}, value)
	}
	return mapping, nil
}
