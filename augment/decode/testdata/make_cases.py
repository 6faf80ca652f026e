#!/usr/bin/python3
"""Writes the encoded images beside it and, as PNG, the pixels that Pillow 9.4 decodes.

They hold what the golden cases do not: rarer kinds of the same formats, all very small, so that
they serve as seeds for fuzzing, too. YCCK needs libturbojpeg.
"""
import ctypes
import io
import os
import struct
import zlib

import numpy as np
from PIL import Image

here = os.path.dirname(os.path.abspath(__file__))
rng = np.random.RandomState(1)
W, H = 21, 13
y, x = np.mgrid[0:H, 0:W]
pixels = np.stack([x * 12, y * 19, (x * y) % 256], -1) + rng.randint(-20, 20, (H, W, 3))
rgb = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
alpha = Image.fromarray(rng.randint(0, 256, (H, W)).astype(np.uint8))
rgba = rgb.copy()
rgba.putalpha(alpha)
grey_alpha = Image.merge("LA", (rgb.convert("L"), alpha))
palette = rgb.convert("P", palette=Image.ADAPTIVE, colors=12)
ink = 255 - np.array(rgb.convert("CMYK"))
ink[..., 3] = np.array(alpha)
cmyk = Image.fromarray(ink, "CMYK")


def add(name, data):
    with open(os.path.join(here, name), "wb") as f:
        f.write(data)
    decoded = np.array(Image.open(io.BytesIO(data)).convert("RGB"))  # an array takes no transparency along
    Image.fromarray(decoded).save(os.path.join(here, name + ".pixels.png"), optimize=True)


def encoded(im, fmt, **options):
    b = io.BytesIO()
    im.save(b, fmt, **options)
    return b.getvalue()


def png(kind, samples, interlaced=False):
    """A PNG of 8 or 16 bits a sample; kind is the colour type."""
    passes = [(0, 0, 1, 1)]
    if interlaced:
        passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    rows = b"".join(b"\0" + row.tobytes() for x0, y0, dx, dy in passes for row in samples[y0::dy, x0::dx])

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", W, H, 8 * samples.itemsize, kind, 0, 0, interlaced)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def noise16(channels):
    return rng.randint(0, 65536, (H, W, channels)).astype(">u2")


def turbojpeg(array, pixel_format, subsampling):
    lib = ctypes.CDLL("libturbojpeg.so.0")
    lib.tjInitCompress.restype = ctypes.c_void_p
    out, size = ctypes.c_void_p(), ctypes.c_ulong()
    array = np.ascontiguousarray(array)
    failed = lib.tjCompress2(ctypes.c_void_p(lib.tjInitCompress()), array.ctypes.data_as(ctypes.c_void_p), W, 0, H,
                             pixel_format, ctypes.byref(out), ctypes.byref(size), subsampling, 80, 0)
    assert not failed
    return ctypes.string_at(out, size.value)


RGB, CMYK, S444, S420, S440, S411 = 0, 11, 0, 2, 4, 5
add("jpeg_440.jpg", turbojpeg(np.array(rgb), RGB, S440))
add("jpeg_411.jpg", turbojpeg(np.array(rgb), RGB, S411))
add("jpeg_ycck_444.jpg", turbojpeg(ink, CMYK, S444))
add("jpeg_ycck_420.jpg", turbojpeg(ink, CMYK, S420))
with_adobe = encoded(cmyk, "JPEG")
at = with_adobe.index(b"Adobe") - 4
add("jpeg_cmyk_without_adobe.jpg", with_adobe[:at] + with_adobe[at + 16:])
jfif = encoded(rgb, "JPEG", subsampling=0)
ids = jfif.replace(b"\x01\x11\x00\x02\x11\x01\x03\x11\x01", b"R\x11\x00G\x11\x01B\x11\x01")
add("jpeg_rgb.jpg", ids[:2] + ids[20:].replace(b"\x03\x01\x00\x02\x11\x03\x11", b"\x03R\x00G\x11B\x11"))
add("png_rgb16.png", png(2, noise16(3)))
add("png_rgba16.png", png(6, noise16(4)))
add("png_grey_alpha16.png", png(4, noise16(2)))
add("png_interlaced.png", png(2, np.array(rgb), interlaced=True))
add("png_grey_alpha.png", encoded(grey_alpha, "PNG"))
add("png_transparent_colour.png", encoded(rgb, "PNG", transparency=rgb.getpixel((3, 3))))
add("png_transparent_index.png", encoded(palette, "PNG", transparency=2))
add("png_bits.png", encoded(rgb.convert("1"), "PNG"))
add("bmp_bits.bmp", encoded(rgb.convert("1"), "BMP"))
add("bmp_alpha.bmp", encoded(rgba, "BMP"))
add("webp_lossy.webp", encoded(rgb, "WEBP", quality=70))
add("webp_lossy_alpha.webp", encoded(rgba, "WEBP", quality=70, exact=True))
add("webp_lossless_alpha.webp", encoded(rgba, "WEBP", lossless=True, exact=True))
# A frame in the middle of a larger screen, with a transparent index, interlaced.
frame = bytearray(encoded(palette, "GIF", transparency=5, interlace=1))
frame[6:10] = struct.pack("<HH", W + 7, H + 4)
at = frame.index(b"\x2c\0\0\0\0")
frame[at + 1:at + 5] = struct.pack("<HH", 3, 2)
add("gif_offset_transparent.gif", bytes(frame))
