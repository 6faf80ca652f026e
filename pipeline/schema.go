package pipeline

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/seed-436d2970/pixpro/augment"
	"github.com/seed-436d2970/pixpro/internal/version"
)

// SchemaVersion is the version of the record batches' contract.
const SchemaVersion = 1

// Keys of the schema's metadata.
const (
	MetaVersion = "pixpro.format_version" // SchemaVersion in decimal
	MetaRecipe  = "pixpro.recipe"         // the recipe, as JSON
	MetaSeed    = "pixpro.seed"           // in decimal
	MetaMean    = "pixpro.mean"           // of R, G, B in [0, 1], as a JSON array
	MetaStd     = "pixpro.std"
	MetaPixPro  = "pixpro.version" // that wrote them, from the second version of the contract on
)

// Normalization is what consumers normalise Uint8 views with: the mean is taken
// from v/255, and the rest divided by the standard deviation.
type Normalization struct {
	Mean, Std [3]float64 // of R, G and B
}

// ImageNet has the usual figures, those of ImageNet's training set.
func ImageNet() Normalization {
	return Normalization{Mean: [3]float64{0.485, 0.456, 0.406}, Std: [3]float64{0.229, 0.224, 0.225}}
}

// NormalizationOf is the normalization that a schema of record batches asks for.
func NormalizationOf(schema *arrow.Schema) (n Normalization, err error) {
	for _, part := range []struct {
		key string
		to  *[3]float64
	}{{MetaMean, &n.Mean}, {MetaStd, &n.Std}} {
		text, ok := schema.Metadata().GetValue(part.key)
		if !ok {
			return Normalization{}, fmt.Errorf("pipeline: the schema's metadata lack %s: was the stream made by another program?", part.key)
		}
		var numbers []float64
		if err := json.Unmarshal([]byte(text), &numbers); err != nil || len(numbers) != 3 {
			return Normalization{}, fmt.Errorf("pipeline: the schema's %s is %q, must be three numbers", part.key, text)
		}
		*part.to = [3]float64(numbers)
	}
	for c, std := range n.Std {
		if !(std > 0) {
			return Normalization{}, fmt.Errorf("pipeline: the schema's %s has %g for channel %d, must be above 0", MetaStd, std, c)
		}
	}
	return n, nil
}

// columns of a record, in order. Those of the second view follow their first.
const (
	colIndex = iota
	colKey
	colLabel
	colView
	colCoord  = colView + 2
	colParams = colCoord + 2
	numFields = colParams + 2
)

// fields of a params struct, in order.
const (
	paramTop = iota
	paramLeft
	paramHeight
	paramWidth
	paramFlip
	paramJitterOrder
	paramJitterFactors
	paramGrayscale
	paramBlurSigma
	paramSolarize
	numParams
)

var (
	coordType = arrow.FixedSizeListOf(4, arrow.PrimitiveTypes.Float32)

	paramsType = arrow.StructOf(
		arrow.Field{Name: "top", Type: arrow.PrimitiveTypes.Int32},
		arrow.Field{Name: "left", Type: arrow.PrimitiveTypes.Int32},
		arrow.Field{Name: "height", Type: arrow.PrimitiveTypes.Int32},
		arrow.Field{Name: "width", Type: arrow.PrimitiveTypes.Int32},
		arrow.Field{Name: "flip", Type: arrow.FixedWidthTypes.Boolean},
		arrow.Field{Name: "jitter_order", Type: arrow.FixedSizeListOf(4, arrow.PrimitiveTypes.Int8)},
		arrow.Field{Name: "jitter_factors", Type: arrow.FixedSizeListOf(4, arrow.PrimitiveTypes.Float64)},
		arrow.Field{Name: "grayscale", Type: arrow.FixedWidthTypes.Boolean},
		arrow.Field{Name: "blur_sigma", Type: arrow.PrimitiveTypes.Float64},
		arrow.Field{Name: "solarize", Type: arrow.FixedWidthTypes.Boolean},
	)
)

// viewType stores a view of size x size pixels: three planes, R, G, B.
func viewType(size int, dtype DType) *arrow.FixedSizeListType {
	return arrow.FixedSizeListOf(int32(3*size*size), dtype.arrowType())
}

// Schema is the schema of the record batches; a row is a pair of views.
//
//	index            int64    row in the dataset
//	key              utf8
//	label            int32    -1: unknown
//	view1, view2     arrow.fixed_shape_tensor<uint8>[3, size, size]: RGB planes, 0-255
//	coord1, coord2   fixed_size_list<float32>[4], see augment.Coord
//	params1, params2 struct: what was drawn, see augment.ViewParams
//
// In params, jitter_order lists the colour operations in the order in which
// they were applied (augment.Op, -1: none) and jitter_factors their factors;
// blur_sigma 0 is no blur. No column has nulls. Where the dtype is Float32, the
// views are tensors of that, normalised.
func Schema(size int, dtype DType, recipe augment.Recipe, seed uint64) (*arrow.Schema, error) {
	recipeJSON, err := json.Marshal(recipe)
	if err != nil {
		return nil, fmt.Errorf("pipeline: recipe: %w", err)
	}
	metadata := arrow.MetadataFrom(map[string]string{
		MetaVersion: strconv.Itoa(SchemaVersion),
		MetaRecipe:  string(recipeJSON),
		MetaSeed:    strconv.FormatUint(seed, 10),
		MetaMean:    jsonNumbers(ImageNet().Mean),
		MetaStd:     jsonNumbers(ImageNet().Std),
	})
	return arrow.NewSchema(fields(size, dtype), &metadata), nil
}

// checkVersion refuses a schema of a later version; one that does not say its
// version may be anybody's.
func checkVersion(s *arrow.Schema) error {
	m := s.Metadata()
	text, ok := m.GetValue(MetaVersion)
	if n, err := strconv.Atoi(text); ok && (err != nil || n > SchemaVersion) {
		writer, _ := m.GetValue(MetaPixPro)
		return fmt.Errorf("pipeline: the record batches have %w", errors.Join(err, version.Newer(n, SchemaVersion, writer)))
	}
	return nil
}

// fields are the columns of a record with views of size x size pixels.
func fields(size int, dtype DType) []arrow.Field {
	tensor := arrow.MetadataFrom(map[string]string{
		"ARROW:extension:name":     "arrow.fixed_shape_tensor",
		"ARROW:extension:metadata": fmt.Sprintf(`{"shape":[3,%d,%d],"dim_names":["C","H","W"]}`, size, size),
	})
	return []arrow.Field{
		colIndex:      {Name: "index", Type: arrow.PrimitiveTypes.Int64},
		colKey:        {Name: "key", Type: arrow.BinaryTypes.String},
		colLabel:      {Name: "label", Type: arrow.PrimitiveTypes.Int32},
		colView:       {Name: "view1", Type: viewType(size, dtype), Metadata: tensor},
		colView + 1:   {Name: "view2", Type: viewType(size, dtype), Metadata: tensor},
		colCoord:      {Name: "coord1", Type: coordType},
		colCoord + 1:  {Name: "coord2", Type: coordType},
		colParams:     {Name: "params1", Type: paramsType},
		colParams + 1: {Name: "params2", Type: paramsType},
	}
}

func jsonNumbers(v [3]float64) string {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // three finite numbers
	}
	return string(data)
}

// ViewsOf is the size in pixels and the type of the views in record batches of
// that schema.
func ViewsOf(schema *arrow.Schema) (size int, dtype DType, err error) {
	if got := schema.NumFields(); got != numFields {
		return 0, "", fmt.Errorf("pipeline: the schema has %d columns, a batch of view pairs has %d", got, numFields)
	}
	view := schema.Field(colView)
	views, ok := view.Type.(*arrow.FixedSizeListType)
	switch {
	case view.Name != "view1":
		return 0, "", fmt.Errorf("pipeline: column %d is %s %v, want view1", colView, view.Name, view.Type)
	case !ok:
		return 0, "", fmt.Errorf("pipeline: column %s is %v, not a tensor of a view", view.Name, view.Type)
	}
	size = int(math.Round(math.Sqrt(float64(views.Len()) / 3)))
	switch {
	case int64(views.Len()) != 3*int64(size)*int64(size):
		return 0, "", fmt.Errorf("pipeline: column %s has lists of %d values, which are no three planes of a square", view.Name, views.Len())
	case views.Elem().ID() == arrow.UINT8:
		return size, Uint8, nil
	case views.Elem().ID() == arrow.FLOAT32:
		return size, Float32, nil
	}
	return 0, "", fmt.Errorf("pipeline: column %s holds %v, must hold %s or %s", view.Name, views.Elem(), Uint8, Float32)
}
