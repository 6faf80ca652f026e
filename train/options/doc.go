// Package options is the one table of what decides a training run. A row has
// an option's name, group, help, default, check, and whether a resumed run may
// change it; flags, YAML files, validation, the comparison of a resumed run
// with its checkpoint, and docs/options.md all come from the rows.
//
// To add an option, add a field to Options and its row in Rows. A method adds
// its own (see package method): a Section with rows of its own, which becomes a
// part of the table.
package options
