// Package augment draws and applies the random views of self-supervised
// pre-training: crops with their coordinates, flips and photometric operations.
//
// An [Image] is a decoded picture. A [Recipe] draws the parameters of a view
// ([ViewParams]) from a counter-based [Rand]; ViewParams.Apply makes the view
// from the image into [Planes], and ViewParams.Coord tells where it lies in the
// image. Drawing and applying are separate, so that a view can be made again,
// bit for bit, from the parameters that a record batch carries.
//
// Every operation gives the same bytes as Pillow 9.4 through torchvision 0.14:
//
//	ResizedCrop          functional.resized_crop, bilinear (antialiased)
//	Planes.HFlip         functional.hflip
//	Planes.Brightness    functional.adjust_brightness
//	Planes.Contrast      functional.adjust_contrast
//	Planes.Saturation    functional.adjust_saturation
//	Planes.Hue           functional.adjust_hue
//	Planes.Grayscale     functional.to_grayscale, three channels
//	Planes.GaussianBlur  PIL.ImageFilter.GaussianBlur
//	Planes.Solarize      PIL.ImageOps.solarize
//	Planes.Sharpness     functional.adjust_sharpness
//	Planes.Posterize     functional.posterize
//	Planes.AutoContrast  functional.autocontrast
//	Planes.Equalize      functional.equalize
//
// All but the first two, the grayscale and the blur are photometric operations
// ([Op]) that recipes draw with a factor ([Jitter]). One table, in operations.go,
// has their names, what their factors mean and may be, how the colour jitter and
// RandAugment draw these, and what does them; parsing, checks, captions and
// benchmarks go by it. An operation more is a row there and its code.
//
// The portable code is the specification; on amd64, builds with GOEXPERIMENT=simd
// have vector code (AVX2) for what takes the time, and PIXPRO_CPU=generic turns it
// off. The bytes are the same.
//
// Working memory belongs to a [Scratch], one for each goroutine; once it has
// seen the sizes at hand, nothing is allocated. The package depends on the standard
// library and on two small packages of this module that do so, too. Encoded files
// are read by augment/decode.
package augment
