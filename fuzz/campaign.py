"""Runs damaged networks through the readers and the graph, and keeps what must not happen."""

from __future__ import annotations

import resource
import signal
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType

from senet_convert.converter.graph.build import build
from senet_convert.errors import ConvertError
from senet_convert.proto import read_caffemodel, read_prototxt

from . import mutate

SECONDS = 5.0  # that one input may take
MEMORY = 1 << 30  # bytes by which one input may raise the peak of the process


@dataclass(frozen=True)
class Seed:
    """A whole network to begin with."""

    name: str
    prototxt: bytes
    caffemodel: bytes


@dataclass(frozen=True)
class Finding:
    """An outcome that must not be; `trial` repeats it."""

    trial: int
    seed: str
    what: str

    def __str__(self) -> str:
        return f"trial {self.trial} ({self.seed}): {self.what}"


@dataclass
class Campaign:
    """Counts of outcomes, and the findings."""

    outcomes: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    slowest: float = 0.0


class TooSlow(BaseException):
    """Raised inside an input that takes too long; no `except Exception` on its way holds it up."""


def seeds(folder: Path) -> list[Seed]:
    """The networks in the folders of `folder`."""
    found = []
    for prototxt in sorted(folder.glob("*/deploy.prototxt")):
        caffemodel = prototxt.with_name("net.caffemodel")
        if caffemodel.exists():
            found.append(Seed(prototxt.parent.name, prototxt.read_bytes(), caffemodel.read_bytes()))
    return found


def run(networks: Sequence[Seed], scratch: Path, number: int, first: int, count: int, seconds: float) -> Campaign:
    """Trials `first` to `first + count` of the campaign `number`, at most `seconds` long; `scratch` is a folder."""
    campaign = Campaign()
    stop = time.monotonic() + seconds
    for trial in range(first, first + count):
        if time.monotonic() > stop:
            break
        random = Random(f"{number}/{trial}")
        seed = random.choice(networks)
        prototxt = _damaged(seed, scratch, random)
        _judge(campaign, trial, seed.name, prototxt, scratch / "net.caffemodel")
    return campaign


def _damaged(seed: Seed, scratch: Path, random: Random) -> Path | None:
    """Write the network with damage in one of its files, or in both; give its prototxt, None for the binary alone."""
    which = random.choice(("text", "text", "binary", "binary", "both", "alone"))
    text, binary = seed.prototxt, seed.caffemodel
    if which in ("text", "both"):
        text = mutate.damage(text, mutate.TEXT, random)
    if which != "text":
        binary = mutate.damage(binary, mutate.BINARY, random)
    (scratch / "net.prototxt").write_bytes(text)
    (scratch / "net.caffemodel").write_bytes(binary)
    return None if which == "alone" else scratch / "net.prototxt"


def _judge(campaign: Campaign, trial: int, seed: str, prototxt: Path | None, caffemodel: Path) -> None:
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    try:
        with _limit(SECONDS):
            weights = read_caffemodel(caffemodel)
            build(read_prototxt(prototxt) if prototxt else weights, weights)
        outcome = "graph"
    except ConvertError as refused:
        outcome = type(refused).__name__
    except TooSlow:
        outcome = "too slow"
    except Exception as fault:
        outcome = type(fault).__name__
        campaign.findings.append(Finding(trial, seed, "".join(traceback.format_exception(fault)[-4:])))
    took = time.perf_counter() - start
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    if took > SECONDS:
        campaign.findings.append(Finding(trial, seed, f"took {took:.1f} s"))
    if grown > MEMORY:
        campaign.findings.append(Finding(trial, seed, f"took {grown >> 20} MiB more memory"))
    campaign.outcomes[outcome] += 1
    campaign.slowest = max(campaign.slowest, took)


@contextmanager
def _limit(seconds: float) -> Iterator[None]:
    def ring(_number: int, _frame: FrameType | None) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
