// Package suggest finds what somebody meant who mistyped a name.
package suggest

import (
	"fmt"
	"strings"
)

// For is ", did you mean prefix+NAME?" with the name that is nearest to what was
// typed, and empty if none is near.
func For(typed, prefix string, names []string) string {
	const longest = 64 // of what a person mistypes
	if len(typed) > longest {
		return ""
	}
	best, least := "", 1+len(typed)/3
	for _, name := range names {
		d := distance(typed, name)
		if len(typed) > 2 && strings.HasPrefix(name, typed) {
			d = 1
		}
		if d <= least && (best == "" || d < least) {
			best, least = name, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(", did you mean %s%s?", prefix, best)
}

// distance is the number of bytes to insert, remove, replace, or swap with their
// neighbour, that makes b of a: the distance of Damerau and Levenshtein between
// strings of which no part is changed twice.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			d := min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d = min(d, rows[i-2][j-2]+1)
			}
			rows[i][j] = d
		}
	}
	return rows[len(a)][len(b)]
}
