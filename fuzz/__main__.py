"""python -m fuzz: a campaign by hand; exit code 1 when something must not be."""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from pathlib import Path

from .campaign import run, seeds

GOLDEN = Path(__file__).parents[1] / "tests" / "golden"


def main() -> int:
    """Run it and print counts."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="how long (default: %(default)s)")
    parser.add_argument("--count", type=int, default=10**9, help="at most so many trials")
    parser.add_argument("--campaign", type=int, default=0, help="another number gives other damage")
    parser.add_argument("--first", type=int, default=0, help="the first trial; with --count 1 it repeats a finding")
    parser.add_argument("--networks", type=Path, default=GOLDEN, help="folders with deploy.prototxt and net.caffemodel")
    parser.add_argument("--keep", type=Path, help="a folder that keeps the files of the last trial")
    args = parser.parse_args()
    warnings.simplefilter("error")
    with tempfile.TemporaryDirectory() as temporary:
        scratch = args.keep or Path(temporary)
        scratch.mkdir(parents=True, exist_ok=True)
        done = run(seeds(args.networks), scratch, args.campaign, args.first, args.count, args.seconds)
    print(f"{done.outcomes.total()} trials of campaign {args.campaign}, the slowest took {done.slowest:.2f} s")
    for outcome, count in done.outcomes.most_common():
        print(f"{count:8d} {outcome}")
    for finding in done.findings[:50]:
        print(finding)
    print(f"{len(done.findings)} findings")
    return 1 if done.findings else 0


if __name__ == "__main__":
    sys.exit(main())
