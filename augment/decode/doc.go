// Package decode turns encoded images into pixels: JPEG, PNG, BMP, GIF (first
// frame) and WebP, told apart by their content.
//
// [ReadHeader] looks at the format and size alone; a [Decoder] makes an
// [augment.Image], 8-bit RGB as Pillow's convert("RGB") gives it: alpha is
// dropped and not blended, 16 bits a sample become their high byte, CMYK is
// converted, an EXIF orientation is ignored. Lossless formats give the same
// bytes as Pillow, and so do JPEGs through libjpeg-turbo, which is opened at run
// time where there is one (TurboJPEG of version 2 or 3; PIXPRO_JPEG=go leaves it
// alone). Without it image/jpeg decodes, whose inverse cosine transform can differ
// from libjpeg's by one; chroma upsampling and colour conversion are libjpeg's.
//
// [Decoder.DecodeScaled] trades exactness for speed on big photographs.
//
// A size over Decoder.MaxPixels is refused before anything is allocated
// ([ErrTooLarge]); whatever else cannot be decoded, unknown, unsupported,
// damaged or cut off, is [ErrFormat]. Missing pixels are never made up.
// JPEG, PNG and BMP files too small for the size that they claim are refused
// before anything is allocated, too. GIF and WebP hold an even image in a few
// bytes whatever its size, so that several bytes for each pixel that the
// header claims may be allocated before the decoder finds that data is missing.
package decode
