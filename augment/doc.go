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
//
// Working memory belongs to a [Scratch], one for each goroutine; once it has
// seen the sizes at hand, nothing is allocated. The package depends on the
// standard library alone. Encoded files are read by augment/decode.
package augment
