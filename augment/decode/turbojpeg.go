//go:build (linux || darwin) && !android && (amd64 || arm64)

package decode

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"unsafe"

	"github.com/ebitengine/purego"

	"github.com/seed-436d2970/pixpro/augment"
	"github.com/seed-436d2970/pixpro/internal/dl"
)

// turboLibrary is libjpeg-turbo behind its TurboJPEG interface. Version 3 has a
// new one and keeps the old.
type turboLibrary struct {
	name string
	turboInterface
	destroy, errorCode, errorString uintptr // addresses of functions
}

// turboInterface is one generation of the calls.
type turboInterface interface {
	open() (handle uintptr)
	// size reads the header.
	size(t *turboInstance, data []byte) (width, height int)
	// decode writes rows of packed pixels; it fails with a result of not 0.
	decode(t *turboInstance, data, pix []byte, format turboFormat, width, height, divisor int) (result int32)
}

// turboInstance is a decompressor, for one image: it would use the tables of one
// file for the next that lacks its own. It lives on the heap, so that the
// library can write into it.
type turboInstance struct {
	handle                                uintptr
	width, height, subsampling, colouring int32
}

var instancePool = sync.Pool{New: func() any { return new(turboInstance) }}

// openTurboJPEG opens the library and proves it on small images.
func openTurboJPEG() (*turboLibrary, error) {
	names := []string{"libturbojpeg.so.0", "libturbojpeg.so", "libturbojpeg.dylib", "/opt/homebrew/opt/jpeg-turbo/lib/libturbojpeg.dylib"}
	if wanted := os.Getenv("PIXPRO_JPEG"); wanted != "" {
		names = []string{wanted}
	}
	lib, err := dl.Open(names...)
	if err != nil {
		return nil, fmt.Errorf("no libjpeg-turbo: %w", err)
	}
	var errs []error
	for _, find := range []func(*dl.Library) (*turboLibrary, error){findTurbo3, findTurbo2} {
		t, err := find(lib)
		if err == nil {
			err = t.prove()
		}
		if err == nil {
			return t, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// turbo2 holds the functions of versions 2 (and 1.4 on).
type turbo2 struct{ init, header, decompress uintptr }

func findTurbo2(lib *dl.Library) (*turboLibrary, error) {
	calls := new(turbo2)
	t := &turboLibrary{name: lib.Name + " (TurboJPEG 2)", turboInterface: calls}
	return t, lib.Symbols(map[string]*uintptr{
		"tjInitDecompress": &calls.init, "tjDecompressHeader3": &calls.header, "tjDecompress2": &calls.decompress,
		"tjDestroy": &t.destroy, "tjGetErrorCode": &t.errorCode, "tjGetErrorStr2": &t.errorString,
	})
}

func (c *turbo2) open() uintptr {
	handle, _, _ := purego.SyscallN(c.init)
	return handle
}

// size ignores the result, which also fails for subsamplings that have no number.
func (c *turbo2) size(t *turboInstance, data []byte) (width, height int) {
	t.width, t.height = 0, 0
	purego.SyscallN(c.header, t.handle, uintptr(unsafe.Pointer(unsafe.SliceData(data))), uintptr(len(data)),
		uintptr(unsafe.Pointer(&t.width)), uintptr(unsafe.Pointer(&t.height)),
		uintptr(unsafe.Pointer(&t.subsampling)), uintptr(unsafe.Pointer(&t.colouring)))
	return int(t.width), int(t.height)
}

// decode asks for the scaled size; the library takes the largest scale that
// fits in there.
func (c *turbo2) decode(t *turboInstance, data, pix []byte, format turboFormat, width, height, divisor int) int32 {
	const limitScans = 32768 // TJFLAG_LIMITSCANS
	result, _, _ := purego.SyscallN(c.decompress, t.handle, uintptr(unsafe.Pointer(unsafe.SliceData(data))), uintptr(len(data)),
		uintptr(unsafe.Pointer(unsafe.SliceData(pix))),
		uintptr(ceil(width, divisor)), 0, uintptr(ceil(height, divisor)), uintptr(format), limitScans)
	return int32(result)
}

// turbo3 holds the functions of versions 3.
type turbo3 struct{ init, set, get, setScale, header, decompress uintptr }

func findTurbo3(lib *dl.Library) (*turboLibrary, error) {
	calls := new(turbo3)
	t := &turboLibrary{name: lib.Name + " (TurboJPEG 3)", turboInterface: calls}
	return t, lib.Symbols(map[string]*uintptr{
		"tj3Init": &calls.init, "tj3Set": &calls.set, "tj3Get": &calls.get, "tj3SetScalingFactor": &calls.setScale,
		"tj3DecompressHeader": &calls.header, "tj3Decompress8": &calls.decompress,
		"tj3Destroy": &t.destroy, "tj3GetErrorCode": &t.errorCode, "tj3GetErrorStr": &t.errorString,
	})
}

func (c *turbo3) open() uintptr {
	const (
		decompress           = 1       // TJINIT_DECOMPRESS
		scanLimit, mostScans = 13, 500 // TJPARAM_SCANLIMIT, as TJFLAG_LIMITSCANS has it
	)
	handle, _, _ := purego.SyscallN(c.init, decompress)
	if handle != 0 {
		purego.SyscallN(c.set, handle, scanLimit, mostScans)
	}
	return handle
}

func (c *turbo3) size(t *turboInstance, data []byte) (width, height int) {
	const jpegWidth, jpegHeight = 5, 6 // TJPARAM_JPEGWIDTH, TJPARAM_JPEGHEIGHT
	if result, _, _ := purego.SyscallN(c.header, t.handle, uintptr(unsafe.Pointer(unsafe.SliceData(data))), uintptr(len(data))); int32(result) != 0 {
		return 0, 0
	}
	w, _, _ := purego.SyscallN(c.get, t.handle, jpegWidth)
	h, _, _ := purego.SyscallN(c.get, t.handle, jpegHeight)
	return int(int32(w)), int(int32(h))
}

func (c *turbo3) decode(t *turboInstance, data, pix []byte, format turboFormat, width, height, divisor int) int32 {
	// tjscalingfactor, two integers, goes by value in one register.
	if result, _, _ := purego.SyscallN(c.setScale, t.handle, 1|uintptr(divisor)<<32); int32(result) != 0 {
		return int32(result)
	}
	result, _, _ := purego.SyscallN(c.decompress, t.handle, uintptr(unsafe.Pointer(unsafe.SliceData(data))), uintptr(len(data)),
		uintptr(unsafe.Pointer(unsafe.SliceData(pix))), 0, uintptr(format))
	return int32(result)
}

// decompress decodes into pix, which must have the length of the scaled image of
// the given size. The error is a turboWarning if pix is filled all the same.
func (l *turboLibrary) decompress(data, pix []byte, format turboFormat, width, height, divisor int) error {
	if len(data) == 0 || max(width, height) > math.MaxInt32 || len(pix) != ceil(width, divisor)*ceil(height, divisor)*format.bytes() {
		return fmt.Errorf("%d bytes cannot become %d x %d pixels in %d bytes", len(data), width, height, len(pix))
	}
	// TurboJPEG 2 keeps the text of an error by thread, and whether an image is
	// damaged depends on it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	t := instancePool.Get().(*turboInstance)
	defer instancePool.Put(t)
	if t.handle = l.open(); t.handle == 0 {
		return errors.New("libjpeg-turbo does not start: out of memory")
	}
	defer purego.SyscallN(l.destroy, t.handle)
	defer runtime.KeepAlive(data)
	defer runtime.KeepAlive(pix)
	// The library writes as many rows as the file says, not as pix has.
	switch w, h := l.size(t, data); {
	case w == 0 && h == 0:
		return l.failure(t)
	case w != width || h != height:
		return fmt.Errorf("the size is %d x %d for libjpeg-turbo", w, h)
	}
	if l.decode(t, data, pix, format, width, height, divisor) != 0 {
		return l.failure(t)
	}
	return nil
}

// warnings are how libjpeg's begin. After a warning, the library calls an error
// that stops it a warning, too, so that only the text tells them apart.
var warnings = []string{
	"Application transferred", "Corrupt JPEG data", "Inconsistent progression", "Invalid SOS parameters", "Premature end",
	"Unknown Adobe color transform", "Warning:",
}

// failure is the last error of a decompressor.
func (l *turboLibrary) failure(t *turboInstance) error {
	const warning = 0 // TJERR_WARNING
	code, _, _ := purego.SyscallN(l.errorCode, t.handle)
	address, _, _ := purego.SyscallN(l.errorString, t.handle)
	text := cString(address)
	message := "libjpeg-turbo: " + text
	if int32(code) == warning && slices.ContainsFunc(warnings, func(w string) bool { return strings.HasPrefix(text, w) }) {
		return turboWarning(message)
	}
	return errors.New(message)
}

// cString copies a text of the library's.
func cString(address uintptr) string {
	const most = 200 // JMSG_LENGTH_MAX
	var text []byte
	// Reading the address through a pointer to it keeps vet from taking it for
	// one into Go's memory.
	p := *(*unsafe.Pointer)(unsafe.Pointer(&address))
	for i := 0; p != nil && i < most; i++ {
		c := *(*byte)(unsafe.Add(p, i))
		if c == 0 {
			break
		}
		text = append(text, c)
	}
	return string(text)
}

// prove checks a library on an even image, which any decoder must bring back,
// at each scale, and on its file without the end, which it must refuse.
func (l *turboLibrary) prove() error {
	const width, height = 83, 61
	want := [3]uint8{200, 120, 40}
	picture := image.NewRGBA(image.Rect(0, 0, width, height))
	for i := range width * height {
		picture.Set(i%width, i/width, color.RGBA{want[0], want[1], want[2], 255})
	}
	var file bytes.Buffer
	if err := jpeg.Encode(&file, picture, nil); err != nil {
		return err
	}
	for _, divisor := range []int{1, 2, 4, 8} {
		var m augment.Image
		resize(&m, ceil(width, divisor), ceil(height, divisor))
		if err := l.decompress(file.Bytes(), m.Pix, turboRGB, width, height, divisor); err != nil {
			return fmt.Errorf("%s fails on a small image: %w", l.name, err)
		}
		for i, v := range m.Pix {
			if d := int(v) - int(want[i%3]); d < -3 || d > 3 {
				return fmt.Errorf("%s decodes a small image wrongly (%d for %d): not used", l.name, v, want[i%3])
			}
		}
	}
	pix := make([]byte, 3*width*height)
	if l.decompress(file.Bytes()[:file.Len()-20], pix, turboRGB, width, height, 1) == nil {
		return fmt.Errorf("%s finds nothing wrong with a file that is cut off: not used", l.name)
	}
	return nil
}
