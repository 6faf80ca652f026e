#!/usr/bin/env python3
"""Times a PixPro training step in PyTorch, to compare pixpro bench step with.

A whole step on views without meaning, as pixpro's: both views go up as uint8,
are normalised, pass through the encoder and the key encoder, propagation, the
loss in both directions, backward, LARS and the moving average. Channels last,
cuDNN's fastest convolutions, optimiser by multi-tensor calls. Prints JSON.
"""
import argparse
import json
import statistics
import time

import torch
import torch.nn as nn
import torch.nn.functional as F
import torchvision


def head(channels, hidden, dim):
    return nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.BatchNorm2d(hidden), nn.ReLU(inplace=True), nn.Conv2d(hidden, dim, 1))


def branch(arch, hidden=4096, dim=256):
    net = getattr(torchvision.models, arch)()
    body = nn.Sequential(*list(net.children())[:-2])  # all but pooling and classifier
    return nn.Sequential(body, head(net.fc.in_features, hidden, dim))


def propagated(x, value, gamma=2):
    u = F.normalize(x, dim=1).flatten(2)
    weights = torch.einsum("nci,ncj->nij", u, u).clamp(min=0) ** gamma
    return torch.einsum("nij,ncj->nci", weights, F.normalize(value(x), dim=1).flatten(2))


def matches(a, b, cells, threshold=0.7):
    def centres(c):
        steps = (torch.arange(cells, device=c.device) + 0.5) / cells
        x = c[:, :1] + steps * (c[:, 2:3] - c[:, :1])
        y = c[:, 1:2] + steps * (c[:, 3:] - c[:, 1:2])
        return torch.stack([x[:, None].expand(-1, cells, -1), y[:, :, None].expand(-1, -1, cells)], -1).flatten(1, 2)

    diagonal = torch.maximum(*(torch.hypot(c[:, 2] - c[:, 0], c[:, 3] - c[:, 1]) / cells for c in (a, b)))
    return (torch.cdist(centres(a), centres(b)) < threshold * diagonal[:, None, None]).float()


def loss(q, k, match):
    cosine = torch.einsum("nci,ncj->nij", F.normalize(q.float(), dim=1), F.normalize(k.float(), dim=1).flatten(2))
    return -2 * ((cosine * match).sum((1, 2)) / (match.sum((1, 2)) + 1e-6)).mean()


def lars(parameters, buffers, rate, momentum=0.9, decay=1e-5, trust=1e-3):
    """SGD with momentum and layer-wise rates; biases and batch norms plainly."""
    wide = [p for p in parameters if p.ndim > 1]
    rest = [p for p in parameters if p.ndim == 1]
    gradients = list(torch._foreach_add([p.grad for p in wide], wide, alpha=decay))
    sizes, slopes = torch._foreach_norm(wide), torch._foreach_norm(gradients)
    torch._foreach_mul_(gradients, [trust * s / (g + 1e-8) for s, g in zip(sizes, slopes)])
    torch._foreach_mul_(buffers, momentum)
    torch._foreach_add_(buffers, gradients + [p.grad for p in rest])
    torch._foreach_add_(wide + rest, buffers, alpha=-rate)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--arch", default="resnet50")
    arguments.add_argument("--size", type=int, default=224)
    arguments.add_argument("--batch", type=int, default=64)
    arguments.add_argument("--steps", type=int, default=10)
    arguments.add_argument("--precision", choices=["fp32", "tf32", "bf16"], default="fp32")
    arguments.add_argument("--device", default="cuda")
    o = arguments.parse_args()

    card = o.device.startswith("cuda")
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = o.precision != "fp32"
    query = branch(o.arch).to(o.device, memory_format=torch.channels_last)
    key = branch(o.arch).to(o.device, memory_format=torch.channels_last)
    value = nn.Conv2d(256, 256, 1).to(o.device)
    key.load_state_dict(query.state_dict())
    for p in key.parameters():
        p.requires_grad_(False)
    parameters = list(query.parameters()) + list(value.parameters())
    parameters = [p for p in parameters if p.ndim > 1] + [p for p in parameters if p.ndim == 1]
    buffers = [torch.zeros_like(p) for p in parameters]
    views = torch.randint(0, 256, (2, o.batch, 3, o.size, o.size), dtype=torch.uint8)
    if card:
        views = views.pin_memory()
    corners = torch.rand(2, o.batch, 4, device=o.device) * 0.3
    corners[..., 2:] += 0.5
    mean = torch.tensor([0.485, 0.456, 0.406], device=o.device).view(1, 3, 1, 1)
    deviation = torch.tensor([0.229, 0.224, 0.225], device=o.device).view(1, 3, 1, 1)

    def step():
        raw = views.to(o.device, non_blocking=True)
        x = [((v / 255 - mean) / deviation).contiguous(memory_format=torch.channels_last) for v in raw]
        with torch.no_grad():
            torch._foreach_mul_(list(key.parameters()), 0.99)
            torch._foreach_add_(list(key.parameters()), list(query.parameters()), alpha=0.01)
        with torch.autocast("cuda" if card else "cpu", dtype=torch.bfloat16, enabled=o.precision == "bf16"):
            with torch.no_grad():
                keys = [key(v) for v in x]
            y = [propagated(query(v), value) for v in x]
        cells = keys[0].shape[-1]
        match = matches(corners[0], corners[1], cells)
        total = loss(y[0], keys[1], match) + loss(y[1], keys[0], match.transpose(1, 2))
        for p in parameters:
            p.grad = None
        total.backward()
        with torch.no_grad():
            lars(parameters, buffers, 0.1)
        return total

    times = []
    for i in range(o.steps + 3):
        start = time.perf_counter()
        last = step().item()  # waits for the card
        if i >= 3:
            times.append(time.perf_counter() - start)
    if not -4.1 < last < 4.1:
        raise SystemExit(f"the loss is {last}: these steps are not a training's")
    seconds = statistics.median(times)
    print(json.dumps({"torch": torch.__version__, "arch": o.arch, "size": o.size, "batch": o.batch, "precision": o.precision,
                      "seconds_per_step": seconds, "pairs_per_second": o.batch / seconds,
                      "peak_memory_bytes": torch.cuda.max_memory_allocated() if card else None}))


if __name__ == "__main__":
    main()
