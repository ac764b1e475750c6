"""What a conversion costs: `python -m bench.convert CAFFEMODEL [PROTOTXT]`.

Two figures, from fresh processes that take turns; the first turn warms the caches and does not count:

- time: reading plus writing (--no-check), without interpreter and imports, against `cp` of the bytes that were written;
- memory: the peak of a whole process with --no-check less that of a process that only imports, against the caffemodel.

With --check, the whole command with the check as well.

Where a virtual machine's host takes free memory back (free page reporting), the first touch of a page can cost ten
times the copying of its bytes, now and then for one side, now and then for the other: read the lowest times too.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

IMPORTS = "import senet_convert.converter.convert"
# Prints the seconds of one conversion without the imports, then the peak of the process in KiB.
CONVERT = """
import resource, sys, time
from pathlib import Path
from senet_convert.converter.convert import Wishes, convert
start = time.perf_counter()
prototxt = Path(sys.argv[2]) if sys.argv[2] else None
convert(Path(sys.argv[1]), prototxt, Path(sys.argv[3]), Wishes(check=sys.argv[4] == "check"), lambda text: None)
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
PEAK = f"{IMPORTS}; import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"


def main() -> None:
    """Run both comparisons and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("caffemodel", type=Path)
    parser.add_argument("prototxt", nargs="?", type=Path)
    parser.add_argument("-n", "--runs", type=int, default=9)
    parser.add_argument("--check", action="store_true", help="time the conversion with its check too")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        measure(args.caffemodel, args.prototxt, folder, args.runs, "no-check")
        if args.check:
            measure(args.caffemodel, args.prototxt, folder, args.runs, "check")


def measure(model: Path, prototxt: Path | None, folder: Path, runs: int, check: str) -> None:
    """One table: conversion and copy in turn."""
    seconds, copies, peaks = [], [], []
    imports = statistics.median(float(python(PEAK)[0]) for _ in range(3))
    out, copy = folder / "bundle", folder / "copy"
    for _ in range(runs + 1):
        shutil.rmtree(out, ignore_errors=True)
        shutil.rmtree(copy, ignore_errors=True)
        took, peak = python(CONVERT, str(model), str(prototxt or ""), str(out), check)
        seconds.append(float(took))
        peaks.append(float(peak))
        copies.append(copied(out, copy))
    written = sum(path.stat().st_size for path in out.iterdir()) / 2**20
    size = model.stat().st_size / 2**20
    ratio = statistics.median(a / b for a, b in zip(seconds[1:], copies[1:], strict=True))
    extra = (statistics.median(peaks[1:]) - imports) / 1024
    print(f"{model.name}, {size:.0f} MiB, --{check}, median of {runs} (lowest to highest)")
    print(f"  convert          {row(seconds[1:])} s beyond the imports")
    print(f"  cp of {written:4.0f} MiB   {row(copies[1:])} s, ratio {ratio:.2f}")
    print(f"  peak memory      {statistics.median(peaks[1:]) / 1024:7.0f} MiB")
    print(f"  beyond imports   {extra:7.0f} MiB, ratio to the caffemodel {extra / size:.2f}")


def row(times: Sequence[float]) -> str:
    """Median, lowest and highest."""
    return f"{statistics.median(times):7.2f} ({min(times):.2f} to {max(times):.2f})"


def python(code: str, *args: str) -> list[str]:
    """The words that a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, check=True)
    return done.stdout.split()


def copied(source: Path, target: Path) -> float:
    """Seconds that `cp` takes for the files of a bundle."""
    start = time.perf_counter()
    subprocess.run(["cp", "-r", str(source), str(target)], check=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
