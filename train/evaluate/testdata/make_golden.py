#!/usr/bin/env python3
"""Makes golden.json: what scikit-learn, SciPy and PyTorch give for random
cases of what package evaluate computes. Versions go into the file.

    pip install scikit-learn scipy torch
    python make_golden.py > golden.json
"""
import json
import sys

import numpy as np
import scipy
import sklearn
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import accuracy_score, jaccard_score
from sklearn.neighbors import KNeighborsClassifier

rng = np.random.default_rng(20210619)


def numbers(a):
    """Numbers that are the same in float32 and in the file."""
    return [float(v) for v in np.asarray(a, np.float32).ravel()]


def confusion(classes, pixels, present):
    truth = rng.choice(present, pixels)
    predicted = np.where(rng.random(pixels) < 0.6, truth, rng.choice(present, pixels))
    ignored = rng.random(pixels) < 0.1
    mask = np.where(ignored, 255, truth)
    t, p = truth[~ignored], predicted[~ignored]
    seen = np.union1d(t, p)
    iou = jaccard_score(t, p, labels=seen, average=None)
    per_class = [None] * classes
    for c, v in zip(seen, iou):
        per_class[c] = float(v)
    return {
        "classes": classes, "truth": mask.tolist(), "predicted": predicted.tolist(),
        "miou": float(jaccard_score(t, p, labels=seen, average="macro")),
        "accuracy": float(accuracy_score(t, p)), "iou": per_class,
    }


def assignment(rows, cols, integers):
    cost = rng.integers(-20, 20, (rows, cols)).astype(float) if integers else rng.normal(size=(rows, cols))
    r, c = linear_sum_assignment(cost)
    # With ties several assignments are best; the sum is the same.
    return {"rows": rows, "cols": cols, "cost": cost.ravel().tolist(), "total": float(cost[r, c].sum()),
            "columns": None if integers else c.tolist()}


def kmeans(n, dim, k, start):
    centres = rng.normal(size=(k, dim)) * 2
    points = (centres[rng.integers(k, size=n)] + rng.normal(size=(n, dim))).astype(np.float32)
    init = points[rng.choice(n, k, replace=False)].astype(float)
    if start == "empty":  # a centre that no point is nearest to
        init[-1] = 1e3
    m = KMeans(k, init=init, n_init=1, max_iter=300, tol=0, algorithm="lloyd").fit(points.astype(float))
    return {"dim": dim, "points": numbers(points), "init": init.ravel().tolist(), "labels": m.labels_.tolist(),
            "centres": m.cluster_centers_.ravel().tolist(), "inertia": float(m.inertia_)}


def neighbours(n, queries, dim, classes, k, temperature):
    means = rng.normal(size=(classes, dim))
    labels = rng.integers(classes, size=n)
    train = (means[labels] + 1.5 * rng.normal(size=(n, dim))).astype(np.float32)
    truth = rng.integers(classes, size=queries)
    test = (means[truth] + 1.5 * rng.normal(size=(queries, dim))).astype(np.float32)
    m = KNeighborsClassifier(k, metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / temperature))
    m.fit(train.astype(float), labels)
    predicted = m.predict(test.astype(float))
    return {"dim": dim, "classes": classes, "k": k, "temperature": temperature, "train": numbers(train), "labels": labels.tolist(),
            "test": numbers(test), "truth": truth.tolist(), "predicted": predicted.tolist(), "accuracy": float((predicted == truth).mean())}


def upsample(rows, cols, channels, height, width):
    scores = torch.tensor(rng.normal(size=(1, channels, rows, cols)).astype(np.float32), requires_grad=True)
    out = torch.nn.functional.interpolate(scores, (height, width), mode="bilinear", align_corners=False)
    truth = torch.tensor(rng.integers(channels, size=(1, height, width)))
    truth[torch.tensor(rng.random((1, height, width)) < 0.2)] = 255
    loss = torch.nn.functional.cross_entropy(out, truth, ignore_index=255, reduction="sum")
    loss.backward()
    last = lambda t: numbers(t.detach().numpy()[0].transpose(1, 2, 0))
    return {"rows": rows, "cols": cols, "channels": channels, "height": height, "width": width, "scores": last(scores), "out": last(out),
            "truth": truth.ravel().tolist(), "loss": float(loss), "grad": last(scores.grad)}


def components(n, dim):
    points = (rng.normal(size=(n, dim)) @ rng.normal(size=(dim, dim))).astype(np.float32)
    m = PCA(3).fit(points.astype(float))
    # A component's sign is free: the largest of its entries is made positive.
    projected = m.transform(points.astype(float))
    for i, axis in enumerate(m.components_):
        if axis[np.argmax(np.abs(axis))] < 0:
            projected[:, i] *= -1
    return {"dim": dim, "points": numbers(points), "projected": projected.ravel().tolist(), "ratios": m.explained_variance_ratio_.tolist()}


def probe(images, rows, cols, channels, classes, epochs, rate, decay):
    """A linear probe whose batches hold all images, from the given weights."""
    features = rng.normal(size=(images, rows, cols, channels)) * rng.uniform(0.1, 3, channels) + rng.normal(size=channels)
    features = features.astype(np.float32)
    truth = rng.integers(classes, size=(images, 4 * rows, 4 * cols))
    truth[rng.random(truth.shape) < 0.2] = 255
    weight = rng.normal(size=(classes, channels)).astype(np.float32)
    bias = rng.normal(size=classes).astype(np.float32)
    x = features.astype(float)
    x = (x - x.mean((0, 1, 2))) / x.std((0, 1, 2)) / np.sqrt(channels)
    x = torch.tensor(x.transpose(0, 3, 1, 2).copy())
    conv = torch.nn.Conv2d(channels, classes, 1).double()
    with torch.no_grad():
        conv.weight.copy_(torch.tensor(weight[:, :, None, None]))
        conv.bias.copy_(torch.tensor(bias))
    optimizer = torch.optim.SGD(conv.parameters(), lr=rate, momentum=0.9, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        optimizer.zero_grad()
        scores = torch.nn.functional.interpolate(conv(x), scale_factor=4, mode="bilinear", align_corners=False)
        torch.nn.functional.cross_entropy(scores, torch.tensor(truth), ignore_index=255).backward()
        optimizer.step()
        schedule.step()
    return {"rows": rows, "cols": cols, "channels": channels, "classes": classes, "epochs": epochs, "rate": rate, "decay": decay,
            "features": numbers(features), "truth": truth.ravel().tolist(), "weight": numbers(weight), "bias": numbers(bias),
            "trained_weight": numbers(conv.weight.detach()), "trained_bias": numbers(conv.bias.detach())}


json.dump({
    "source": f"scikit-learn {sklearn.__version__}, SciPy {scipy.__version__}, PyTorch {torch.__version__}, NumPy {np.__version__}",
    "confusion": [confusion(3, 50, [0, 1, 2]), confusion(7, 400, range(7)), confusion(6, 120, [0, 2, 5]), confusion(2, 40, [1])],
    "assignment": [assignment(1, 1, False), assignment(4, 4, False), assignment(7, 7, False), assignment(5, 9, False), assignment(8, 8, True), assignment(20, 31, False)],
    "kmeans": [kmeans(60, 2, 3, "points"), kmeans(300, 5, 7, "points"), kmeans(40, 3, 4, "empty"), kmeans(25, 1, 2, "points")],
    "neighbours": [neighbours(80, 40, 6, 4, 5, 0.07), neighbours(50, 30, 9, 3, 20, 0.2)],
    "upsample": [upsample(3, 3, 2, 6, 6), upsample(2, 4, 3, 7, 5), upsample(5, 4, 2, 3, 3), upsample(1, 1, 3, 2, 4)],
    "components": [components(30, 5), components(12, 20)],
    "probe": [probe(3, 2, 3, 5, 4, 8, 2.0, 0.01), probe(2, 4, 4, 3, 2, 5, 0.5, 0.3)],
}, sys.stdout, separators=(",", ":"))
print()
