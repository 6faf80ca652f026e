package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/seed-436d2970/pixpro/train/options"
)

// asUsage makes an error about an option one of the command line, which names
// the flag; others stay as they are.
func asUsage(err error) error {
	var bad *options.Error
	if !errors.As(err, &bad) {
		return err
	}
	value := bad.Value
	if value == "" || strings.ContainsAny(value, " \t\n\"'") {
		value = fmt.Sprintf("%q", value)
	}
	return usageError{fmt.Errorf("--%s %s: %s", bad.Name, value, bad.Want)}
}

// addOptions makes flags of options: of all, or of those that are named.
func addOptions(f *pflag.FlagSet, o *options.Options, names ...string) {
	for _, r := range o.Rows() {
		if len(names) == 0 || slices.Contains(names, r.Name) {
			f.Var(r, r.Name, r.Help)
		}
	}
}

// layered returns the options of a preset, a YAML file above it, and the flags
// that were given above both. preset and path may be empty.
func layered(f *pflag.FlagSet, preset, path string) (options.Options, error) {
	o := options.Default()
	var err error
	if preset != "" {
		if o, err = options.Preset(preset); err != nil {
			return o, err
		}
	}
	if path != "" {
		if err := o.ReadFile(path); err != nil {
			return o, usageError{err}
		}
	}
	for _, r := range o.Rows() {
		if flag := f.Lookup(r.Name); flag != nil && flag.Changed {
			if err := r.Set(flag.Value.String()); err != nil {
				return o, fmt.Errorf("--%s: %w", r.Name, err)
			}
		}
	}
	return o, nil
}

// groupOptions makes a command's help list its options by groups, others first.
func groupOptions(cmd *cobra.Command, o *options.Options) {
	groups := map[string]options.Group{}
	for _, r := range o.Rows() {
		groups[r.Name] = r.Group
	}
	cmd.SetUsageFunc(func(cmd *cobra.Command) error {
		w := cmd.OutOrStderr()
		fmt.Fprintf(w, "Usage:\n  %s\n\nExamples:\n%s\n", cmd.UseLine(), cmd.Example)
		print := func(title string, of options.Group) {
			set := pflag.NewFlagSet(title, pflag.ContinueOnError)
			set.SortFlags = false
			cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
				if groups[f.Name] == of {
					set.AddFlag(f)
				}
			})
			fmt.Fprintf(w, "\n%s:\n%s", title, set.FlagUsages())
		}
		print("Flags", "")
		for _, g := range options.Groups() {
			print(strings.ToUpper(string(g[:1]))+string(g[1:])+" options", g)
		}
		_, err := fmt.Fprintf(w, "\nGlobal flags:\n%s", cmd.InheritedFlags().FlagUsages())
		return err
	})
	cmd.Flags().SortFlags = false
}
