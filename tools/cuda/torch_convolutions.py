#!/usr/bin/env python3
"""Times in PyTorch the convolutions that pixpro bench convolutions has timed.

Reads that command's JSON and writes JSON: times, a list like the one that was
read, and table, both side by side. Channels last, cuDNN's fastest algorithms,
the precision of the input.
"""
import argparse
import json
import statistics
import sys
import time

import torch


def timed(call, card, repeats=5):
    """Seconds of a call, after one in which cuDNN looks for the fastest."""
    call()
    times = []
    for _ in range(repeats):
        if card:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            call()
            end.record()
            torch.cuda.synchronize()
            times.append(start.elapsed_time(end) / 1e3)
        else:
            begun = time.perf_counter()
            call()
            times.append(time.perf_counter() - begun)
    return statistics.median(times)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--device", default="cuda")
    device = arguments.parse_args().device
    card = device.startswith("cuda")
    ours = json.load(sys.stdin)
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = ours["precision"] != "fp32"
    dtype = torch.bfloat16 if ours["precision"] == "bf16" else torch.float32

    def random(*shape):
        return torch.randn(*shape, device=device, dtype=dtype).to(memory_format=torch.channels_last)

    kinds = ("forward", "data", "weights")
    times, lines, totals = [], [], {kind: [0.0, 0.0] for kind in kinds}
    for c in ours["convolutions"]:
        x = random(c["images"], c["in"], c["height"], c["width"])
        w = random(c["out"], c["in"] // c["groups"], c["kernel"], c["kernel"])
        window = [c["stride"]] * 2, [c["padding"]] * 2, [c["dilation"]] * 2
        dy = torch.randn_like(torch.nn.functional.conv2d(x, w, None, *window, c["groups"]))

        def gradient(*mask):
            return torch.ops.aten.convolution_backward(dy, x, w, None, *window, False, [0, 0], c["groups"], [*mask, False])

        calls = {
            "forward": lambda: torch.nn.functional.conv2d(x, w, None, *window, c["groups"]),
            "data": lambda: gradient(True, False),
            "weights": lambda: gradient(False, True),
        }
        theirs, cells = dict(c), []
        for kind in kinds:
            n, a = c[kind]["calls"], c[kind]["seconds"]
            b = timed(calls[kind], card) if n else 0
            theirs[kind] = {"calls": n, "seconds": b}
            totals[kind][0] += n * a
            totals[kind][1] += n * b
            cells.append(f"{n:3d} x {1e3 * a:8.3f} {1e3 * b:8.3f}" if n else " " * 23)
        times.append(theirs)
        shape = f"{c['images']} x {c['height']} x {c['width']}"
        lines.append(f"{shape:16} {c['in']:5d} > {c['out']:4d} {c['kernel']}x{c['kernel']} / {c['stride']}   " + "   ".join(cells))
    lines.insert(0, f"ms a call, PixPro's and PyTorch {torch.__version__}'s: " + ", ".join(kinds))
    lines.append("ms a step: " + ", ".join(f"{kind} {1e3 * a:.3f} {1e3 * b:.3f}" for kind, (a, b) in totals.items()))
    print(json.dumps({"torch": torch.__version__, "times": times, "table": "\n".join(lines)}))


if __name__ == "__main__":
    main()
