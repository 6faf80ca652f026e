#!/usr/bin/env python3
"""Prints the results of table.sh as Markdown: mean and standard deviation over
the seeds, in percent.

    table.py FOLDER
"""
import json
import pathlib
import statistics
import sys

METHODS = ["untrained", "instance", "pixcontrast", "pixpro", "pixpro+instance"]
COLUMNS = [
    ("mIoU", "segment", "miou"),
    ("pixel accuracy", "segment", "pixel_accuracy"),
    ("cluster mIoU", "cluster", "miou"),
    ("match", "match", "top1"),
    ("within one", "match", "within_one"),
    ("k-NN", "knn", "accuracy"),
]


def values(folder, kind, method, figure):
    found = []
    for path in sorted(folder.glob(f"{kind}-{method}-*.json")):
        if path.stem[len(kind) + len(method) + 2:].isdigit():
            found.append(100 * json.loads(path.read_text())["models"][0][figure])
    return found


def cell(numbers):
    if not numbers:
        return "-"
    spread = f" ± {statistics.stdev(numbers):.1f}" if len(numbers) > 1 else ""
    return f"{statistics.mean(numbers):.1f}{spread}"


def main():
    folder = pathlib.Path(sys.argv[1])
    print("| features | seeds | " + " | ".join(name for name, _, _ in COLUMNS) + " |")
    print("| --- " * (len(COLUMNS) + 2) + "|")
    for method in METHODS:
        seeds = len(values(folder, "segment", method, "miou"))
        if seeds:
            print(f"| {method} | {seeds} | " + " | ".join(cell(values(folder, kind, method, figure)) for _, kind, figure in COLUMNS) + " |")
    curve = sorted((m["step"], 100 * m["miou"]) for path in folder.glob("curve-*.json") for m in json.loads(path.read_text())["models"])
    if curve:
        print("\n| step | " + " | ".join(str(step) for step, _ in curve) + " |")
        print("| --- " * (len(curve) + 1) + "|")
        print("| mIoU of pixpro | " + " | ".join(f"{miou:.1f}" for _, miou in curve) + " |")


if __name__ == "__main__":
    main()
