#!/usr/bin/env python3
"""DenseCL in plain PyTorch, and a short training run by it in float64, for reference.

    make_densecl.py [SEED]      writes densecl.{json,init,data,final} beside itself

Wang et al., "Dense Contrastive Learning for Self-Supervised Visual Pre-Training" (CVPR 2021), with both directions:
each view's queries against the other view's keys. Slow on purpose; needs torch and numpy alone.
"""
import json
import math
import os
import struct
import sys

import torch
import torch.nn as nn
import torch.nn.functional as F

HERE = os.path.dirname(os.path.abspath(__file__))
STEPS, BATCH, SIDE, CELLS_OF_NOISE = 3, 4, 64, 8
BASE, HIDDEN, DIM, QUEUE = 8, 24, 12, 20  # 8 keys a step: the third step writes over the end of the queue
TAU, WEIGHT, MOMENTUM, TOTAL = 0.2, 0.5, 0.99, 12
MEAN, STD = torch.tensor([0.485, 0.456, 0.406])[:, None, None], torch.tensor([0.229, 0.224, 0.225])[:, None, None]


class Block(nn.Module):
    def __init__(self, cin, out, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(cin, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out)
        self.conv2, self.bn2 = nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out)
        self.downsample = None
        if stride != 1 or cin != out:
            self.downsample = nn.Sequential(nn.Conv2d(cin, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class Encoder(nn.Module):
    """A ResNet of one block a stage, under torchvision's names."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, BASE, 7, 2, 3, bias=False), nn.BatchNorm2d(BASE)
        cin = BASE
        for i in range(4):
            setattr(self, f"layer{i + 1}", nn.Sequential(Block(cin, BASE << i, 2 if i else 1)))
            cin = BASE << i

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))  # without pooling: more cells
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


class Head(nn.Module):
    """1x1 convolution, ReLU, 1x1 convolution; on one cell it is the head of whole images."""

    def __init__(self):
        super().__init__()
        self.linear1, self.linear2 = nn.Conv2d(BASE * 8, HIDDEN, 1), nn.Conv2d(HIDDEN, DIM, 1)

    def forward(self, x):
        return self.linear2(F.relu(self.linear1(x)))


class DenseCL(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.projector, self.projector_instance = Encoder(), Head(), Head()
        self.encoder_k, self.projector_k, self.projector_instance_k = Encoder(), Head(), Head()
        self.register_buffer("queue", F.normalize(torch.randn(QUEUE, DIM), dim=1))
        self.register_buffer("queue2", F.normalize(torch.randn(QUEUE, DIM), dim=1))
        self.register_buffer("queue_ptr", torch.zeros(1))
        self.step = 0
        for a, b in self.pairs():
            b.load_state_dict(a.state_dict())
            for p in b.parameters():
                p.requires_grad = False

    def pairs(self):
        return [(self.encoder, self.encoder_k), (self.projector, self.projector_k), (self.projector_instance, self.projector_instance_k)]

    def key_momentum(self):
        return 1 - (1 - MOMENTUM) * (math.cos(math.pi * self.step / TOTAL) + 1) / 2

    def branch(self, x, encoder, dense, whole):
        """Features, cells' projections (N x HW x C, unit), whole images' (unit), and the pooled dense ones (unit)."""
        f = encoder(x)
        d = dense(f)
        rows = lambda m: F.normalize(m.flatten(2), dim=1).transpose(1, 2)
        return rows(f), rows(d), F.normalize(whole(f.mean((2, 3), keepdim=True)).flatten(1), dim=1), F.normalize(d.mean((2, 3)), dim=1)

    def direction(self, q, k):
        (fq, dq, gq, _), (fk, dk, gk, _) = q, k
        contrast = lambda pos, neg: F.cross_entropy(torch.cat([pos[:, None], neg], 1) / TAU, torch.zeros(len(pos), dtype=torch.long))
        whole = contrast((gq * gk).sum(1), gq @ self.queue.T)
        match = (fq @ fk.transpose(1, 2)).argmax(2)  # the key cell whose backbone features are most alike
        found = torch.gather(dk, 1, match[:, :, None].expand(-1, -1, DIM))
        cells = contrast((dq * found).sum(2).flatten(), dq.flatten(0, 1) @ self.queue2.T)
        return (1 - WEIGHT) * whole + WEIGHT * cells

    def forward(self, x1, x2):
        m = self.key_momentum()
        self.step += 1
        q = [self.branch(x, self.encoder, self.projector, self.projector_instance) for x in (x1, x2)]
        with torch.no_grad():
            for a, b in self.pairs():
                for p, pk in zip(a.parameters(), b.parameters()):
                    pk.mul_(m).add_(p, alpha=1 - m)
            k = [self.branch(x, self.encoder_k, self.projector_k, self.projector_instance_k) for x in (x1, x2)]
        loss = (self.direction(q[0], k[1]) + self.direction(q[1], k[0])) / 2
        at = (int(self.queue_ptr) + torch.arange(2 * len(x1))) % QUEUE  # first views' keys, then second views'
        self.queue, self.queue2 = self.queue.clone(), self.queue2.clone()
        self.queue[at], self.queue2[at] = torch.cat([k[0][2], k[1][2]]), torch.cat([k[0][3], k[1][3]])
        self.queue_ptr = torch.tensor([float((int(self.queue_ptr) + 2 * len(x1)) % QUEUE)], dtype=self.queue_ptr.dtype)
        return loss


def state(m):
    return {k: v for k, v in m.state_dict().items() if "num_batches" not in k}


def replay(init, data, dtype):
    """SGD with momentum 0.9 and decay 1e-4 at rate 0.05: losses, gradient norms, final state."""
    torch.set_default_dtype(dtype)
    m = DenseCL()
    m.load_state_dict({k: v.to(dtype) for k, v in init.items()}, strict=False)
    opt = torch.optim.SGD([p for p in m.parameters() if p.requires_grad], lr=0.05, momentum=0.9, weight_decay=1e-4)
    steps = []
    for s in range(STEPS):
        x = [(data[f"step{s}.view{v}"].to(dtype) / 255 - MEAN.to(dtype)) / STD.to(dtype) for v in (1, 2)]
        momentum = m.key_momentum()
        opt.zero_grad()
        loss = m(*x)
        loss.backward()
        steps.append(dict(loss=loss.item(), key_momentum=momentum, grad_norm={k: p.grad.norm().item() for k, p in m.named_parameters() if p.requires_grad}))
        opt.step()
    return steps, {k: v.double() for k, v in state(m).items()}


def save(name, tensors):
    kinds, head, blobs, at = {torch.float32: "F32", torch.uint8: "U8"}, {}, [], 0
    for k, v in tensors.items():
        b = v.detach().contiguous().numpy().tobytes()
        head[k] = dict(dtype=kinds[v.dtype], shape=list(v.shape), data_offsets=[at, at + len(b)])
        blobs.append(b)
        at += len(b)
    h = json.dumps(head).encode()
    h += b" " * (-len(h) % 8)
    with open(os.path.join(HERE, name), "wb") as f:
        f.write(struct.pack("<Q", len(h)) + h + b"".join(blobs))


def main():
    torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    torch.set_num_threads(1)
    init = {k: v.float() for k, v in state(DenseCL()).items()}
    data = {}
    for s in range(STEPS):
        low = torch.rand(2, BATCH, 3, CELLS_OF_NOISE, CELLS_OF_NOISE)
        low[1] = 0.7 * low[0] + 0.3 * low[1]  # the views of a pair are alike
        im = (F.interpolate(low.flatten(0, 1), (SIDE, SIDE), mode="bicubic").clamp(0, 1) * 255).round().to(torch.uint8)
        data[f"step{s}.view1"], data[f"step{s}.view2"] = im[:BATCH].contiguous(), im[BATCH:].contiguous()
    steps, final = replay(init, data, torch.float64)
    single, drifted = replay(init, data, torch.float32)
    rel = lambda a, b: abs(a - b) / max(abs(b), 1e-3)
    # What another program in float32 may differ by: ten times as much as PyTorch does, and a floor.
    tolerance = dict(loss=[max(2e-5, 10 * rel(a["loss"], b["loss"])) for a, b in zip(single, steps)],
                     grad_norm=max(1e-3, 10 * max(rel(single[0]["grad_norm"][k], v) for k, v in steps[0]["grad_norm"].items())),
                     final=max(1e-3, 10 * max(((drifted[k] - v).norm() / max(v.norm().item(), 1e-3)).item() for k, v in final.items())))
    save("densecl.init.safetensors", init)
    save("densecl.data.safetensors", data)
    save("densecl.final.safetensors", {k: v.float() for k, v in final.items()})
    with open(os.path.join(HERE, "densecl.json"), "w") as f:
        json.dump(dict(base_width=BASE, hidden=HIDDEN, dim=DIM, queue=QUEUE, tau=TAU, weight=WEIGHT, total_steps=TOTAL, momentum=MOMENTUM,
                       sgd=dict(rate=0.05, momentum=0.9, weight_decay=1e-4), tolerance=tolerance, steps=steps), f, indent=1)
    print([round(s["loss"], 5) for s in steps], tolerance)


main()
