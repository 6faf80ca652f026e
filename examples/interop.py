"""Checks that weights go to PyTorch and back: run it by "make interop".

It trains ResNet-18 and ResNet-50 for a few steps on generated pictures and
compares, with torchvision's models as the reference:

  * every format of "pixpro export", for both encoders: names, values, and the
    feature map of a picture
  * files that torch.save makes, in torchvision's and in the published
    implementation's layout, read by "pixpro features" and "pixpro train --init"

Needs torch, torchvision, numpy and Pillow.
"""

import argparse
import collections
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch
import torchvision
from PIL import Image

TOLERANCE = 1e-4  # of feature maps, relative to their largest value where that is above 1
COUNTER = "num_batches_tracked"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pixpro", default="bin/pixpro", help="the program")
    args = parser.parse_args()
    torch.manual_seed(1)
    with tempfile.TemporaryDirectory() as folder:
        check = Check(pathlib.Path(args.pixpro).resolve(), pathlib.Path(folder))
        check.make_shards()
        for arch in ["resnet18", "resnet50"]:
            check.train(arch, f"run-{arch}")
            for which in ["encoder", "key-encoder"]:
                check.torchvision_export(arch, which)
                check.safetensors_export(arch, which)
                check.detectron2_export(arch, which)
            check.full_export(arch)
            check.imports(arch)
    print(f"all {check.done} comparisons are fine")


class Check:
    def __init__(self, pixpro, folder):
        self.pixpro, self.folder, self.done = pixpro, folder, 0
        self.picture = folder / "picture.png"
        Image.fromarray(noise(97, 130, seed=7)).save(self.picture)

    def run(self, *args):
        result = subprocess.run([self.pixpro, *map(str, args), "--log-level", "warn"], stdout=subprocess.PIPE, text=True)
        if result.returncode != 0:
            sys.exit(f"pixpro {' '.join(map(str, args))} ended with {result.returncode}")
        return result.stdout

    def ok(self, condition, what):
        if not condition:
            sys.exit(f"FAILED: {what}")
        self.done += 1
        print(f"ok  {what}")

    def make_shards(self):
        images = self.folder / "images"
        images.mkdir()
        for i in range(8):
            Image.fromarray(noise(80, 90, seed=100 + i)).save(images / f"{i}.png")
        self.run("shard", "--in", images, "--out", self.folder / "shards")

    def train(self, arch, output, *more):
        self.run("train", "--shards", self.folder / "shards", "--output", self.folder / output, "--arch", arch,
                 "--size", 64, "--batch", 4, "--epochs", 1, "--warmup-epoch", 1, "--head-hidden", 32, "--head-dim", 16, *more)

    def features(self, checkpoint, *more):
        out = self.folder / "features.safetensors"
        self.run("features", "--checkpoint", checkpoint, "--image", self.picture, "--out", out, *more)
        return read_safetensors(out)["features"]

    def export(self, arch, fmt, out, *more):
        path = self.folder / out
        self.run("export", "--checkpoint", self.folder / f"run-{arch}", "--format", fmt, "--out", path, *more)
        return path

    def same_features(self, arch, state, ours, what):
        model = torchvision.models.__dict__[arch]()
        missing, unexpected = model.load_state_dict(state, strict=False)
        self.ok(set(missing) == {"fc.weight", "fc.bias"} and not unexpected, f"{what}: torchvision's {arch} takes all but fc")
        theirs = reference_features(model, self.picture)
        error = np.abs(theirs - ours).max() / max(1, np.abs(theirs).max())
        self.ok(theirs.shape == ours.shape and error <= TOLERANCE and np.abs(theirs).max() > 0,
                f"{what}: feature map {ours.shape} differs by {error:.1e} (largest value {np.abs(theirs).max():.3g})")

    def torchvision_export(self, arch, which):
        path = self.export(arch, "torchvision", "backbone.pth", "--which", which)
        state = torch.load(path, weights_only=True)
        want = {n: t.shape for n, t in torchvision.models.__dict__[arch]().state_dict().items() if not n.startswith("fc.")}
        self.ok({n: t.shape for n, t in state.items()} == want, f"torchvision {arch} {which}: names and shapes")
        ours = self.features(self.folder / f"run-{arch}", "--which", which)
        self.same_features(arch, state, ours, f"torchvision {arch} {which}")

    def safetensors_export(self, arch, which):
        tensors = read_safetensors(self.export(arch, "safetensors", "backbone.safetensors", "--which", which))
        state = {n: torch.from_numpy(t) for n, t in tensors.items()}
        ours = self.features(self.folder / f"run-{arch}", "--which", which)
        self.same_features(arch, state, ours, f"safetensors {arch} {which}")

    def detectron2_export(self, arch, which):
        path = self.export(arch, "detectron2", "backbone.pkl", "--which", which)
        state = read_safetensors(self.export(arch, "safetensors", "backbone.safetensors", "--which", which))
        # Unpickled by a Python that has numpy alone.
        script = """
import sys, pickle, json
sys.modules["torch"] = sys.modules["torchvision"] = None
import numpy
data = pickle.load(open(sys.argv[1], "rb"), encoding="latin1")
assert all(type(v) is numpy.ndarray for v in data["model"].values())
numpy.savez(sys.argv[2], **data["model"])
print(json.dumps({k: v for k, v in data.items() if k != "model"}))
"""
        copy = self.folder / "backbone.npz"
        out = subprocess.run([sys.executable, "-c", script, path, copy], stdout=subprocess.PIPE, text=True, check=True).stdout
        self.ok(json.loads(out) == {"__author__": "PixPro", "matching_heuristics": True}, f"detectron2 {arch} {which}: unpickles with numpy alone")
        arrays = {n: a for n, a in np.load(copy).items() if not n.endswith(COUNTER)}
        want = {detectron2_name(n): t for n, t in state.items()}
        self.ok(set(arrays) == set(want) and all(
            arrays[n].dtype == np.float32 and np.array_equal(arrays[n], want[n]) for n in want),
            f"detectron2 {arch} {which}: {len(want)} names and values, from {min(want)} to {max(want)}")

    def full_export(self, arch):
        state = torch.load(self.export(arch, "full", "full.pth"), weights_only=True)
        self.ok(set(state) == {"model", "epoch"} and state["epoch"] == 1, f"full {arch}: model and epoch")
        encoder = [n for n in torchvision.models.__dict__[arch]().state_dict() if not n.startswith("fc.")]
        norm = ["weight", "bias", "running_mean", "running_var", COUNTER]
        head = [f"linear{i}.{n}" for i in [1, 2] for n in ["weight", "bias"]] + [f"bn1.{n}" for n in norm]
        want = {f"module.{part}.{n}" for part in ["encoder", "encoder_k"] for n in encoder}
        want |= {f"module.{part}.{n}" for part in ["projector", "projector_k"] for n in head}
        want |= {"module.value_transform.weight", "module.value_transform.bias"}
        self.ok(set(state["model"]) == want, f"full {arch}: {len(want)} names in the published layout")
        for part, which in [("module.encoder.", "encoder"), ("module.encoder_k.", "key-encoder")]:
            ours = self.features(self.folder / f"run-{arch}", "--which", which)
            self.same_features(arch, strip(state["model"], part), ours, f"full {arch} {which}")

    def imports(self, arch):
        model = torchvision.models.__dict__[arch]()
        lively(model)
        state = model.state_dict()
        theirs = reference_features(model, self.picture)
        published = {
            "opt": argparse.Namespace(arch=arch, lr=0.1, crop=0.08),
            "model": collections.OrderedDict(
                [(f"module.encoder.{n}", t) for n, t in state.items() if not n.startswith("fc.")]
                + [("module.value_transform.weight", torch.randn(16, 16, 1, 1)), ("module.value_transform.bias", torch.randn(16))]),
            "optimizer": torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9).state_dict(),
            "scheduler": {"step": 5, "milestones": collections.Counter([3])},
            "epoch": 7,
        }
        channels_last = {n: t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t for n, t in state.items()}
        for name, content, zipped in [
            ("torchvision", state, True), ("torchvision legacy", state, False),
            ("published", published, True), ("published legacy", published, False),
            ("parameters", dict(model.named_parameters()) | dict(model.named_buffers()), True),
            ("channels last", channels_last, True),
        ]:
            path = self.folder / "import.pth"
            torch.save(content, path, _use_new_zipfile_serialization=zipped)
            ours = self.features(path, "--arch", arch)
            error = np.abs(theirs - ours).max() / max(1, np.abs(theirs).max())
            self.ok(theirs.shape == ours.shape and error <= TOLERANCE, f"import {arch}, {name}: features differ by {error:.1e}")
            if name.startswith("published"):
                self.trains_from(arch, path, state, published["model"], f"import {arch}, {name}")

    def trains_from(self, arch, path, state, published, what):
        """Trains with a rate of 0, after which all parameters are still those of the file."""
        output = f"init-{arch}-{self.done}"
        self.train(arch, output, "--init", path, "--base-lr", 0)
        tensors = read_safetensors(next((self.folder / output / "checkpoints").glob("step-*")) / "model.safetensors")
        parameters = {n: t.numpy() for n, t in state.items() if "running" not in n and COUNTER not in n and not n.startswith("fc.")}
        # The moving average of two equal numbers is rounded.
        self.ok(all(np.array_equal(tensors[f"encoder.{n}"], t) and np.allclose(tensors[f"encoder_k.{n}"], t, rtol=1e-6)
                    for n, t in parameters.items()), f"{what}: train --init fills both encoders")
        self.ok(np.array_equal(tensors["value_transform.weight"], published["module.value_transform.weight"].numpy()),
                f"{what}: train --init takes the value transform")


def noise(height, width, seed):
    """A picture of smooth colours."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    return np.asarray(small.resize((width, height), Image.BICUBIC))


def lively(model):
    """Gives batch norms statistics and weights that matter."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 1)
            torch.nn.init.uniform_(module.bias, -0.1, 0.1)


def reference_features(model, picture):
    transform = torchvision.transforms.Compose([
        torchvision.transforms.ToTensor(),
        torchvision.transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ])
    x = transform(Image.open(picture).convert("RGB"))[None]
    model.eval()
    with torch.no_grad():
        x = model.maxpool(model.relu(model.bn1(model.conv1(x))))
        return model.layer4(model.layer3(model.layer2(model.layer1(x))))[0].numpy()


def detectron2_name(name):
    """Detectron2's name of a parameter, part by part."""
    parts = name.split(".")
    if not parts[0].startswith("layer"):
        parts = ["stem"] + parts
    out = []
    for part in parts:
        if part.startswith("layer"):
            part = f"res{int(part[5:]) + 1}"
        elif part.startswith("bn"):
            part = f"conv{part[2:]}.norm"
        out.append(part)
    return ".".join(out).replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")


def strip(state, prefix):
    return {n[len(prefix):]: t for n, t in state.items() if n.startswith(prefix)}


def read_safetensors(path):
    data = pathlib.Path(path).read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    types = {"F32": np.float32, "F64": np.float64, "U8": np.uint8, "I64": np.int64}
    tensors = {}
    for name, entry in json.loads(data[8:begin]).items():
        if name != "__metadata__":
            first, last = (begin + at for at in entry["data_offsets"])
            tensors[name] = np.frombuffer(data[first:last], types[entry["dtype"]]).reshape(entry["shape"]).copy()
    return tensors


if __name__ == "__main__":
    main()
