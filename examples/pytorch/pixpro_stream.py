"""Pairs of augmented views for PyTorch, from the stream of `pixpro augment`.

    dataset = PixProPairs("shards/", batch=64, epochs=100)
    for pairs in torch.utils.data.DataLoader(dataset, batch_size=None):
        view1, view2 = normalize(pairs["view1"]), normalize(pairs["view2"])

The program does the work in processes of its own, so that one DataLoader worker
(or none) is enough. Needs pyarrow, numpy and torch.
"""

import subprocess
import warnings

import numpy as np
import pyarrow as pa
import torch

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def normalize(views):
    """uint8 views, N x 3 x S x S, to the float32 that torchvision's ToTensor and Normalize give."""
    mean = torch.tensor(MEAN, device=views.device).view(3, 1, 1)
    std = torch.tensor(STD, device=views.device).view(3, 1, 1)
    return views.to(torch.float32).div_(255).sub_(mean).div_(std)


def views_of(batch, name):
    """A view column as an array of N x 3 x S x S that shares the record batch's memory."""
    column = batch.column(name)
    if not isinstance(column, pa.FixedShapeTensorArray):  # a pyarrow before 12 does not know the type
        raise TypeError(f"{name} is {column.type}, not a fixed_shape_tensor: update pyarrow")
    return column.to_numpy_ndarray()


def coords_of(batch, name):
    """A coordinate column as an array of N x 4 (x0, y0, x1, y1) that shares the record batch's memory."""
    column = batch.column(name)
    return column.flatten().to_numpy(zero_copy_only=True).reshape(len(column), 4)


def to_torch(array):
    """The array as a tensor with the same memory. Arrow's memory is read-only: do not write to it in place."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not writ(e)?able.*")
        return torch.from_numpy(array)


def tensors_of(batch):
    """A record batch as a dictionary: tensors without a copy, keys as a list."""
    return {
        "index": to_torch(batch.column("index").to_numpy(zero_copy_only=True)),
        "key": batch.column("key").to_pylist(),
        "label": to_torch(batch.column("label").to_numpy(zero_copy_only=True)),
        **{name: to_torch(views_of(batch, name)) for name in ("view1", "view2")},
        **{name: to_torch(coords_of(batch, name)) for name in ("coord1", "coord2")},
    }


class PixProPairs(torch.utils.data.IterableDataset):
    """Batches of view pairs, each epoch in a new order.

    rank and world split every epoch over processes that train together; the
    workers of a DataLoader split the part of their process once more. options
    are more flags of `pixpro augment`, such as size=160, keep_last=False or
    shuffle="window:8192".
    """

    def __init__(self, shards, pixpro="pixpro", rank=0, world=1, **options):
        super().__init__()
        self.command = [pixpro, "augment", "--log-level", "warn", "--shards", shards]
        self.command += [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        self.rank, self.world = rank, world

    def record_batches(self):
        """The stream as pyarrow's record batches."""
        worker = torch.utils.data.get_worker_info()
        workers, number = (worker.num_workers, worker.id) if worker else (1, 0)
        rank, world = self.rank + self.world * number, self.world * workers
        with subprocess.Popen([*self.command, "--rank", str(rank), "--world", str(world)], stdout=subprocess.PIPE) as process:
            try:
                with pa.ipc.open_stream(process.stdout) as stream:
                    yield from stream
            except GeneratorExit:  # the program stops when nobody reads its stream
                process.stdout.close()
                process.wait()
                raise
            if process.wait() != 0:
                raise RuntimeError(f"{' '.join(self.command)} ended with {process.returncode}")

    def __iter__(self):
        return map(tensors_of, self.record_batches())
