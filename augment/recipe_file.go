package augment

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// ReadRecipe returns the recipe of a name (see LookupRecipe), or of a JSON file
// (see ParseRecipe): of what has a folder or the ending ".json".
func ReadRecipe(nameOrFile string) (Recipe, error) {
	r, err := LookupRecipe(nameOrFile)
	if err == nil || !strings.ContainsRune(nameOrFile, filepath.Separator) && filepath.Ext(nameOrFile) != ".json" {
		return r, err
	}
	data, err := os.ReadFile(nameOrFile)
	if err != nil {
		return Recipe{}, fmt.Errorf("augment: recipe: %w", err)
	}
	if r, err = ParseRecipe(data); err != nil {
		return Recipe{}, fmt.Errorf("augment: recipe %s: %w", nameOrFile, err)
	}
	return r, nil
}

// WithCropsFrom returns the recipe with crops that cover at least the given
// part of an image; 0 leaves it as it is.
func (r Recipe) WithCropsFrom(least float64) (Recipe, error) {
	if least != 0 {
		r.CropScale.Min = least
	}
	return r, r.Validate()
}
