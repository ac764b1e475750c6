"""Pictures read, decoded and preprocessed beside the inference: threads work ahead, a bounded number of batches.

Threads do, as OpenCV decodes and resizes without holding Python's lock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

from numpy.typing import NDArray

from ...errors import ConvertError
from .images import decode
from .preprocess import Preprocess

AHEAD = 2  # batches that are ready or in work while one is computed


@dataclass(frozen=True)
class Item:
    """One picture of a set.

    name   what messages and results call it: its path, or its place in an archive
    label  the output that is right; -1 where that is not known
    read   gives the file's bytes; raises ConvertError or OSError
    """

    name: str
    read: Callable[[], bytes]
    label: int = -1


@dataclass(frozen=True)
class Loaded:
    """A batch: `images` is what the model takes for the `items` that could be read; `broken` are (name, reason).

    `order` are the names of all of them, in the order asked.
    """

    items: tuple[Item, ...]
    images: NDArray[Any]
    broken: tuple[tuple[str, str], ...]
    order: tuple[str, ...]


def load(items: Iterable[Item], preprocess: Preprocess, batch: int, workers: int) -> Iterator[Loaded]:
    """The items in their order, in batches of `batch` (the last one smaller). A broken picture is told, not fatal.

    Batches of pictures of any size are no larger than `workers`.
    """
    if preprocess.any_size:  # the model takes them one by one, and whole pictures need much memory
        batch = min(batch, workers)
    groups = _groups(items, batch)
    pool = ThreadPoolExecutor(workers, "decode")
    try:
        waiting: deque[list[tuple[Item, Future[Any]]]] = deque()
        for group in islice(groups, AHEAD):
            waiting.append([(item, pool.submit(read, item, preprocess)) for item in group])
        while waiting:
            futures = waiting.popleft()
            for group in islice(groups, 1):
                waiting.append([(item, pool.submit(read, item, preprocess)) for item in group])
            yield _gather(futures, preprocess)
    finally:
        pool.shutdown(cancel_futures=True)


def read(item: Item, preprocess: Preprocess) -> NDArray[Any]:
    """One picture as the model takes it. Raises ConvertError that begins with its name."""
    try:
        return preprocess.apply(decode(item.read(), item.name, preprocess.channels))
    except OSError as fault:
        raise ConvertError(f"{item.name}: cannot be read: {fault.strerror or fault}") from fault
    except ConvertError as fault:
        raise ConvertError(f"{item.name}: {str(fault).removeprefix(f'{item.name}: ')}") from fault


def _groups(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    rest = iter(items)
    while group := list(islice(rest, size)):
        yield group


def _gather(futures: list[tuple[Item, Future[Any]]], preprocess: Preprocess) -> Loaded:
    items, images, broken = [], [], []
    for item, future in futures:
        try:
            images.append(future.result())
        except ConvertError as fault:
            broken.append((item.name, str(fault).removeprefix(f"{item.name}: ")))
        else:
            items.append(item)
    order = tuple(item.name for item, _ in futures)
    return Loaded(tuple(items), preprocess.stack(images), tuple(broken), order)
