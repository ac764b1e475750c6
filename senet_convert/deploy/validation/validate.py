"""Top-1 and top-5 errors of a model on labelled pictures, and whether they are what they should be."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ConvertError
from ..images.imagesets import ImageSet
from ..images.loader import Item, Loaded, load
from ..model import Model
from ..runtime.cores import usable_cores
from .accuracy import Judged, Tally, judge, no_better_than_chance
from .comparison import Agreement
from .diagnose import Diagnosis, diagnose
from .journal import Journal, fingerprint
from .predictions import Result, open_predictions

Progress = Callable[[int, int, int], None]  # done, of them from an earlier run, total
Seen = Callable[[Sequence[Item], NDArray[np.float32]], None]

WHOLE_SET = 50_000  # pictures of the ILSVRC2012 validation set
TOLERANCE, TOLERANCES = 0.2, {"SE-BN-Inception": 0.6}  # of a top-1 error in %, against the published one
SIGMAS = 3  # how far a part of the set may be off by chance


@dataclass(frozen=True)
class Wishes:
    """How to validate.

    batch, workers  pictures per run of the network; threads that decode (default: the cores)
    resume       journal of an earlier run, to be continued, or begun
    predictions  file to write, CSV or Parquet by its ending: a line per picture
    expect_top1  top-1 error in % that is expected; without it the published one of a recognised release
    tolerance    how far off that may be, in %; default as published results vary
    sample       pictures for the diagnosis; 0: none
    always       diagnose even where the error is as expected, or nothing is
    """

    batch: int = 32
    workers: int | None = None
    resume: Path | None = None
    predictions: Path | None = None
    expect_top1: float | None = None
    tolerance: float | None = None
    sample: int = 200
    always: bool = False


@dataclass(frozen=True)
class Verdict:
    """A measured top-1 error against an expected one, both in %. `slack` is the tolerance plus what chance may do."""

    expected: float
    expected_top5: float | None
    source: str
    slack: float
    holds: bool


@dataclass(frozen=True)
class Outcome:
    """What a validation found. `seconds` are those of this run, `computed` the pictures judged in it.

    `agreement` holds every engine beside the model, where there were others. `undiagnosed` says why there is no
    diagnosis although there should be one. `guessed`: guessing would have done as well.
    """

    model: Model
    truth: str
    tally: Tally
    seconds: float
    computed: int
    verdict: Verdict | None = None
    diagnosis: Diagnosis | None = field(default=None)
    agreement: Agreement | None = field(default=None)
    undiagnosed: str | None = None
    guessed: bool = False

    def plain(self) -> dict[str, Any]:
        """As data for JSON; docs/validate.md describes the keys."""
        tally, classes = self.tally, self.model.classes
        return {
            "model": str(self.model.path),
            "engine": self.model.engine,
            "provider": self.model.provider,
            "crops": 10 if self.model.preprocess.ten_crop else 1,
            "preprocess": json.loads(self.model.preprocess.to_json()),
            "preprocess_origins": self.model.origins.to_dict() if self.model.origins else None,
            "class_order": classes.order,
            "labels_read_as": self.truth,
            "images": tally.images,
            "top1_error": tally.top1_error,
            "top5_error": tally.top5_error,
            "top1_wrong": tally.top1_wrong,
            "top5_wrong": tally.top5_wrong,
            "broken": len(tally.broken),
            "broken_images": [{"image": name, "error": reason} for name, reason in tally.broken],
            "seconds": round(self.seconds, 3),
            "images_per_second": round(self.computed / self.seconds, 2) if self.computed else None,
            "expected": _expected(self.verdict),
            "diagnosis": self.diagnosis.plain() if self.diagnosis else None,
            "undiagnosed": self.undiagnosed,
            "no_better_than_chance": self.guessed,
            **(self.agreement.plain() if self.agreement else {"engines": [], "agreement": []}),
            "per_class": tally.per_class(classes),
            "confusions": tally.confusions(classes),
        }


def validate(
    model: Model,
    images: ImageSet,
    wishes: Wishes | None = None,
    progress: Progress | None = None,
    seen: Seen | None = None,
    others: Sequence[Model] = (),
) -> Outcome:
    """Judge every picture. `seen` is given each batch with its probabilities, float32 (N, classes).

    `others` are further engines of the same network, run on the same batches; journal, predictions and diagnosis are
    those of `model`. Raises ConvertError: no picture can be read, files cannot be written, or the journal is another
    run's or cannot hold several engines.
    """
    wishes, start = wishes or Wishes(), time.perf_counter()
    if others and wishes.resume:
        raise ConvertError(f"{wishes.resume}: a journal holds the results of one engine; run each by itself")
    agreement = Agreement([model, *others]) if others else None
    tally, computed = _count(model, images, wishes, progress, _Run(model, agreement, seen))
    seconds = time.perf_counter() - start
    verdict = _verdict(model, tally, wishes, images.part)
    found = undiagnosed = None
    high = verdict is not None and tally.top1_error > verdict.expected + verdict.slack
    guessed = no_better_than_chance(tally)
    if wishes.sample and (high or guessed or wishes.always):
        single = model.with_preprocess(replace(model.preprocess, ten_crop=False))
        try:
            found = diagnose(single, images.limited(wishes.sample).items, verdict.expected if verdict else None)
        except ConvertError as fault:  # what was measured stands
            undiagnosed = str(fault)
    return Outcome(model, images.truth, tally, seconds, computed, verdict, found, agreement, undiagnosed, guessed)


@dataclass(frozen=True)
class _Run:
    """What a batch goes through: the model, with other engines beside it if there are any."""

    model: Model
    agreement: Agreement | None
    seen: Seen | None

    def judged(self, loaded: Loaded) -> list[Result]:
        """In the order of the set, broken pictures among the others."""
        if not loaded.items:
            return list(loaded.broken)
        names, labels = [item.name for item in loaded.items], [item.label for item in loaded.items]
        if self.agreement:
            probabilities = self.agreement.probabilities(names, labels, loaded.images)
        else:
            probabilities = self.model.probabilities(loaded.images)
        if self.seen:
            self.seen(loaded.items, probabilities)
        judged = judge(names, labels, probabilities)
        if not loaded.broken:
            return list(judged)
        good, broken = iter(judged), dict(loaded.broken)
        return [(name, broken[name]) if name in broken else next(good) for name in loaded.order]


def _count(model: Model, images: ImageSet, wishes: Wishes, progress: Progress | None, run: _Run) -> tuple[Tally, int]:
    """Every picture's result, counted, and how many of them this run computed."""
    tally = Tally()
    with ExitStack() as stack:
        journal = write = None
        if wishes.resume:
            journal = stack.enter_context(closing(Journal(wishes.resume, fingerprint(model, images.items))))
        if wishes.predictions:
            write = stack.enter_context(closing(open_predictions(wishes.predictions, model.outputs)))
        earlier = journal.done if journal else 0
        for results in _all(images, wishes, journal, run):
            for result in results:
                tally.add(result) if isinstance(result, Judged) else tally.broken.append(result)
            if write:
                write.add(results)
            if progress:
                progress(tally.done, earlier, len(images.items))
    if not tally.images:
        first = "; ".join(f"{name}: {reason}" for name, reason in tally.broken[:3])
        raise ConvertError(f"none of the {tally.done} images can be used: {first}")
    return tally, tally.done - earlier


def _all(images: ImageSet, wishes: Wishes, journal: Journal | None, run: _Run) -> Iterator[Sequence[Result]]:
    """The results of an earlier run, then those of this one, batch by batch."""
    if journal:
        yield from ([result] for result in journal.results())
    rest = images.items[journal.done if journal else 0 :]
    for loaded in load(rest, run.model.preprocess, wishes.batch, wishes.workers or usable_cores()):
        results = run.judged(loaded)
        if journal:
            journal.write(results)
        yield results


def _verdict(model: Model, tally: Tally, wishes: Wishes, part: bool) -> Verdict | None:
    published = model.published
    if wishes.expect_top1 is not None:
        expected, top5, source = wishes.expect_top1, None, "as asked"
    elif published:
        expected, top5, source = published.top1_error, published.top5_error, f"published for {published.name}"
    else:
        return None
    slack = wishes.tolerance
    if slack is None:
        slack = TOLERANCES.get(published.name, TOLERANCE) if published else TOLERANCE
    if part or (wishes.expect_top1 is None and tally.done < WHOLE_SET):
        share = expected / 100
        slack += 100 * SIGMAS * sqrt(share * (1 - share) / tally.images)
    return Verdict(expected, top5, source, slack, round(abs(tally.top1_error - expected), 9) <= slack)


def _expected(verdict: Verdict | None) -> dict[str, Any] | None:
    if verdict is None:
        return None
    return {
        "top1_error": verdict.expected,
        "top5_error": verdict.expected_top5,
        "source": verdict.source,
        "within": round(verdict.slack, 3),
        "holds": verdict.holds,
    }
