"""What `pixpro augment` writes, read and checked from Python.

    test_interop.py PIXPRO      (the program; make interop builds it and runs this)

One row's views are made again with Pillow, from the parameters in the stream
alone, and every byte is compared: photographs as PNG, and as JPEG where pixpro
decodes with libjpeg-turbo, as Pillow does.
"""

import json
import math
import os
import subprocess
import sys
import tempfile
import time
import unittest

import numpy as np
import PIL
import pyarrow as pa
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

import pixpro_stream
from pixpro_stream import PixProPairs, coords_of, normalize, tensors_of, views_of

PIXPRO = os.path.abspath(sys.argv.pop())
SIZE, BATCH, IMAGES = 96, 8, 30


def run(*args):
    return subprocess.run([PIXPRO, *map(str, args)], check=True, stdout=subprocess.PIPE).stdout


def picture(rng, width, height):
    """A smooth picture with some noise: gradients and waves of random colours."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    planes = []
    for _ in range(3):
        fx, fy, phase = rng.uniform(0, 0.2, 2).tolist() + [rng.uniform(0, 6)]
        planes.append(128 + 90 * np.sin(fx * x + fy * y + phase) + rng.normal(0, 12, x.shape))
    return Image.fromarray(np.clip(np.stack(planes, 2), 0, 255).astype(np.uint8))


def brightness(image, factor):
    return ImageEnhance.Brightness(image).enhance(factor)


def contrast(image, factor):
    return ImageEnhance.Contrast(image).enhance(factor)


def saturation(image, factor):
    return ImageEnhance.Color(image).enhance(factor)


def hue(image, factor):
    h, s, v = image.convert("HSV").split()
    turned = (np.array(h, dtype=np.int64) + math.trunc(factor * 255)) % 256
    return Image.merge("HSV", (Image.fromarray(turned.astype(np.uint8), "L"), s, v)).convert("RGB")


JITTER = [brightness, contrast, saturation, hue]  # in the order of augment.Op


def remake(path, params, size):
    """The view that the parameters describe, by Pillow, as 3 x S x S."""
    with Image.open(path) as file:
        image = file.convert("RGB")
    left, top = params["left"], params["top"]
    image = image.crop((left, top, left + params["width"], top + params["height"]))
    image = image.resize((size, size), Image.Resampling.BILINEAR)
    if params["flip"]:
        image = ImageOps.mirror(image)
    for op, factor in zip(params["jitter_order"], params["jitter_factors"]):
        if op >= 0:
            image = JITTER[op](image, factor)
    if params["grayscale"]:
        image = image.convert("L").convert("RGB")
    if params["blur_sigma"] > 0:
        image = image.filter(ImageFilter.GaussianBlur(params["blur_sigma"]))
    if params["solarize"]:
        image = ImageOps.solarize(image, 128)
    return np.asarray(image).transpose(2, 0, 1)


def coord(path, params):
    """Centres of the crop's corner pixels as fractions of the image."""
    with Image.open(path) as file:
        width, height = file.size
    along = lambda pixel, side: pixel / (side - 1) if side > 1 else 0
    x0, x1 = along(params["left"], width), along(params["left"] + params["width"] - 1, width)
    y0, y1 = along(params["top"], height), along(params["top"] + params["height"] - 1, height)
    return [x1, y0, x0, y1] if params["flip"] else [x0, y0, x1, y1]


class Interop(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.images, cls.shards = cls.path("images"), cls.path("shards")
        cls.turbo = "turbo" in run("version", "--json").decode()
        rng = np.random.default_rng(5)
        for i in range(IMAGES):
            os.makedirs(os.path.join(cls.images, f"class{i % 3}"), exist_ok=True)
            form = "jpg" if i % 2 and cls.turbo else "png"
            picture(rng, int(rng.integers(50, 300)), int(rng.integers(50, 300))).save(
                os.path.join(cls.images, f"class{i % 3}", f"{i:03}.{form}"))
        run("shard", "--in", cls.images, "--out", cls.shards, "--log-level", "warn")
        cls.flags = ["--shards", cls.shards, "--size", SIZE, "--batch", BATCH, "--seed", 7, "--log-level", "warn"]
        cls.stream, cls.file = cls.path("pairs.arrows"), cls.path("pairs.arrow")
        for out in cls.stream, cls.file:
            run("augment", *cls.flags, "--out", out)

    @classmethod
    def path(cls, name):
        return os.path.join(cls.folder.name, name)

    def test_stream_and_file_have_the_types_of_the_contract(self):
        with pa.ipc.open_stream(self.stream) as reader:
            stream = list(reader)
        reader = pa.ipc.open_file(self.file)
        file = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        self.assertEqual([len(b) for b in stream], [8, 8, 8, 6])
        for a, b in zip(stream, file, strict=True):
            a.validate(full=True)
            self.assertTrue(a.equals(b))
        schema = stream[0].schema
        self.assertEqual(schema.names, ["index", "key", "label", "view1", "view2", "coord1", "coord2", "params1", "params2"])
        self.assertEqual(schema.field("index").type, pa.int64())
        self.assertEqual(schema.field("key").type, pa.utf8())
        self.assertEqual(schema.field("label").type, pa.int32())
        for view in "view1", "view2":
            column = stream[0].column(view)
            self.assertEqual(column.type.extension_name, "arrow.fixed_shape_tensor")
            self.assertEqual(column.type.value_type, pa.uint8())
            array = column.to_numpy_ndarray()
            self.assertEqual((array.shape, array.dtype), ((BATCH, 3, SIZE, SIZE), np.uint8))
        self.assertEqual(coords_of(stream[0], "coord1").shape, (BATCH, 4))
        self.assertEqual(json.loads(schema.metadata[b"pixpro.recipe"])["name"].lower(), "byol")
        self.assertEqual(schema.metadata[b"pixpro.seed"], b"7")

    def test_pillow_makes_the_same_views_from_the_parameters(self):
        drawn = dict.fromkeys(["flip", "grayscale", "solarize", "blur_sigma", "jitter"], 0)
        formats = set()
        with pa.ipc.open_stream(run("augment", *self.flags, "--epochs", 4)) as reader:
            for batch in reader:
                rows = batch.to_pylist()
                for view, at, params in ("view1", "coord1", "params1"), ("view2", "coord2", "params2"):
                    views, coords = views_of(batch, view), coords_of(batch, at)
                    for i, row in enumerate(rows):
                        path, p = os.path.join(self.images, row["key"]), row[params]
                        np.testing.assert_array_equal(views[i], remake(path, p, SIZE), err_msg=f"{row['key']} {view}: {p}")
                        np.testing.assert_allclose(coords[i], coord(path, p), atol=1e-6)
                        formats.add(path[-3:])
                        drawn["jitter"] += p["jitter_order"][0] >= 0
                        for name in "flip", "grayscale", "solarize", "blur_sigma":
                            drawn[name] += bool(p[name])
        self.assertEqual(formats, {"png", "jpg"} if self.turbo else {"png"})
        for name, times in drawn.items():
            self.assertGreater(times, 0, f"no view had {name}")

    def test_nothing_is_copied_on_the_way_to_torch(self):
        with pa.ipc.open_stream(self.stream) as reader:
            batch = reader.read_next_batch()
        tensors = tensors_of(batch)
        for name in "view1", "view2", "coord1", "coord2":
            column = batch.column(name)
            storage = getattr(column, "storage", column).values
            self.assertEqual(tensors[name].data_ptr(), storage.buffers()[1].address + storage.offset * storage.type.byte_width, name)
        self.assertEqual(tensors["view1"].shape, (BATCH, 3, SIZE, SIZE))
        self.assertTrue(tensors["view1"].is_contiguous())

    def test_float32_is_what_torch_makes_of_uint8(self):
        run("augment", *self.flags, "--dtype", "float32", "--compression", "zstd", "--out", self.path("floats.arrows"))
        with pa.ipc.open_stream(self.stream) as levels, pa.ipc.open_stream(self.path("floats.arrows")) as floats:
            for a, b in zip(levels, floats, strict=True):
                self.assertEqual(b.column("view1").to_numpy_ndarray().shape, (len(b), 3, SIZE, SIZE))
                for view in "view1", "view2":
                    self.assertTrue(torch.equal(normalize(tensors_of(a)[view]), tensors_of(b)[view]))

    def test_dataset_in_a_data_loader(self):
        for workers in 0, 2:
            dataset = PixProPairs(self.shards, pixpro=PIXPRO, size=SIZE, batch=BATCH, seed=7)
            batches = list(torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=workers))
            index = torch.cat([b["index"] for b in batches])
            self.assertEqual(sorted(index.tolist()), list(range(IMAGES)), f"{workers} workers")
            self.assertEqual(batches[0]["view1"].shape, (BATCH, 3, SIZE, SIZE))
        parts = [PixProPairs(self.shards, pixpro=PIXPRO, rank=rank, world=2, batch=BATCH, keep_last=False) for rank in range(2)]
        indexes = [torch.cat([b["index"] for b in part]).tolist() for part in parts]
        self.assertEqual([len(i) for i in indexes], [8, 8])
        self.assertEqual(len(set(sum(indexes, []))), 16, "two ranks have a sample in common")

    def test_program_ends_when_iteration_stops(self):
        batches = PixProPairs(self.shards, pixpro=PIXPRO, size=SIZE, batch=BATCH, epochs=0).record_batches()
        for _ in range(3):
            next(batches)
        start = time.monotonic()
        batches.close()  # waits for the program
        print(f"the program ended {time.monotonic() - start:.3f} s after its reader", file=sys.stderr)


if __name__ == "__main__":
    print(f"pyarrow {pa.__version__}, torch {torch.__version__}, Pillow {PIL.__version__}", file=sys.stderr)
    unittest.main(verbosity=2)
