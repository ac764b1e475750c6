"""What a validation costs beside the bare network: `python -m bench.validate BUNDLE`.

Pictures are synthetic JPEGs of 500x375. In each round, in turn: the bare session on batches that are ready; reading,
decoding and preprocessing alone; and the whole validation. "Sum" is what both take one after the other on the same
cores: the best that sharing them can give. With --memory N, the peak memory over N pictures is shown as it grows.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np

from senet_convert.deploy.images.imagesets import ImageSet
from senet_convert.deploy.images.loader import Item, load
from senet_convert.deploy.model import Model
from senet_convert.deploy.runtime.cores import usable_cores
from senet_convert.deploy.validation.validate import Wishes, validate

DISTINCT = 48  # pictures; the set repeats them
SIDES = (375, 500)
QUALITY = 95


def main() -> None:
    """Run the rounds and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--images", type=int, default=192, help="pictures of one round")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", type=int, default=0, metavar="N", help="watch the memory over N pictures")
    args = parser.parse_args()
    model = Model.open(args.bundle, "cpu", spin=False)
    files = [picture(number) for number in range(DISTINCT)]
    print(f"{usable_cores()} cores, {model.path}, JPEGs of {np.mean([len(f) for f in files]) / 1000:.0f} kB")
    if args.memory:
        watch(model, files, args.memory, args.batch)
        return
    spinning = Model.open(args.bundle, "cpu")
    items = made(files, args.images)
    rounds = [one_round(model, spinning, items, args.batch) for _ in range(args.rounds + 1)][
        1:
    ]  # the first one warms up
    bare, spin, decode, whole = (statistics.median(column) for column in zip(*rounds, strict=True))
    print(f"  bare session, threads that wait quietly  {bare:7.1f} images/s")
    print(f"  bare session, spinning threads           {spin:7.1f} images/s")
    print(f"  decoding and preprocessing alone         {decode:7.1f} images/s")
    print(f"  sum of the better session and decoding   {1 / (1 / max(bare, spin) + 1 / decode):7.1f} images/s")
    print(f"  validate                                 {whole:7.1f} images/s")
    ratio = statistics.median(row[3] / max(row[0], row[1]) for row in rounds)
    print(f"  validate / better bare session           {ratio:7.3f}")


def one_round(model: Model, spinning: Model, items: tuple[Item, ...], batch: int) -> tuple[float, float, float, float]:
    """Images/s of the bare session (quiet, spinning), of decoding alone, of the whole."""
    count = len(items) // batch * batch
    ready = model.preprocess.blank(batch)
    speeds = []
    for session in (model, spinning):
        start = time.perf_counter()
        for _ in range(count // batch):
            session.probabilities(ready)
        speeds.append(count / (time.perf_counter() - start))
    start = time.perf_counter()
    for _ in load(items, model.preprocess, batch, usable_cores()):
        pass
    speeds.append(len(items) / (time.perf_counter() - start))
    found = validate(model, ImageSet(items, ""), Wishes(batch=batch))
    return speeds[0], speeds[1], speeds[2], found.computed / found.seconds


def watch(model: Model, files: list[bytes], count: int, batch: int) -> None:
    """The peak memory of the process after each tenth."""
    told = -1

    def show(done: int, _: int, total: int) -> None:
        nonlocal told
        if done * 10 // total > told:
            told = done * 10 // total
            print(
                f"  {done:7} images  peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:6.0f} MiB",
                flush=True,
            )

    validate(model, ImageSet(made(files, count), ""), Wishes(batch=batch), show)


def made(files: list[bytes], count: int) -> tuple[Item, ...]:
    """A set that repeats the files."""
    return tuple(Item(str(k), BytesIO(files[k % len(files)]).getvalue, 0) for k in range(count))


def picture(number: int) -> bytes:
    """A JPEG about as large as a photograph's: smooth colours, edges and a little noise."""
    state = np.random.RandomState(number)
    layers: Iterator[np.ndarray[tuple[int, ...], np.dtype[np.float32]]] = (
        np.asarray(
            cv2.resize(state.rand(cells, cells, 3).astype(np.float32), SIDES[::-1], interpolation=cv2.INTER_CUBIC)
        )
        for cells in (4, 16, 64)
    )
    image = sum(layers, np.zeros((*SIDES, 3), np.float32)) * 85 + state.randn(*SIDES, 3) * 8
    return cv2.imencode(".jpg", np.clip(image, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[
        1
    ].tobytes()


if __name__ == "__main__":
    main()
