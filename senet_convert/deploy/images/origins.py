"""Where the values of a preprocessing come from: what is known, and what is assumed for want of better.

Caffe keeps preprocessing outside of the network: a caffemodel says nothing of it, a deploy prototxt at most a comment.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ...errors import ConvertError, listed
from .preprocess import Preprocess

KEY = "preprocess_origins"  # in the metadata of an ONNX file
VALUES = ("mean", "scale", "color", "resize", "resample")
SILENT = frozenset({"scale", "color", "resample"})  # Caffe's own tools agree on these: assuming them is no trap
THIS_RUN = "an option of this run"


@dataclass(frozen=True)
class Origin:
    """Where one value comes from, in words; `known` where that is more than a guess."""

    known: bool
    source: str


@dataclass(frozen=True)
class Origins:
    """The origin of each value, by the names of VALUES; `offers` are options that may be right, with the reason."""

    values: Mapping[str, Origin] = field(hash=False)
    offers: tuple[str, ...] = ()

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Origins | None:
        """Those that an ONNX file carries; None where it says nothing. Raises ConvertError: not readable."""
        if KEY not in metadata:
            return None
        try:
            return cls.from_dict(json.loads(metadata[KEY]))
        except ValueError as fault:
            raise ConvertError(f"the origins of the model's preprocessing are not readable: {fault!r}") from fault

    @classmethod
    def from_dict(cls, given: Any) -> Origins:
        """The inverse of `to_dict`. Raises ConvertError for anything else."""
        try:
            values = {str(one["value"]): Origin(bool(one["known"]), str(one["source"])) for one in given["values"]}
            return cls(values, tuple(map(str, given["offers"])))
        except (TypeError, KeyError, AttributeError) as fault:
            raise ConvertError(f"the origins of the model's preprocessing are not readable: {fault!r}") from fault

    def to_dict(self) -> dict[str, Any]:
        """As data for JSON."""
        values = [{"value": name, "known": one.known, "source": one.source} for name, one in self.values.items()]
        return {"values": values, "offers": list(self.offers)}

    def to_json(self) -> str:
        """One line of JSON, as it stands in the metadata under KEY."""
        return json.dumps(self.to_dict())

    def said(self, names: Iterable[str], source: str = THIS_RUN) -> Origins:
        """The same, with these values now known from `source`."""
        return replace(self, values={**self.values, **{name: Origin(True, source) for name in names}})

    @property
    def assumed(self) -> tuple[str, ...]:
        """The values that nothing states."""
        return tuple(name for name, one in self.values.items() if not one.known)

    @property
    def doubtful(self) -> tuple[str, ...]:
        """Those of them on which networks differ, so that a wrong one costs accuracy without a word."""
        return tuple(name for name in self.assumed if name not in SILENT)

    def warning(self, preprocess: Preprocess) -> str | None:
        """What the user should know; None where all that matters is known."""
        if not self.doubtful:
            return None
        said = "; ".join(f"{_value(name, preprocess)} ({self.values[name].source})" for name in self.doubtful)
        options = listed([f"--{name}" for name in self.doubtful])
        offered = f". Offered: {'; '.join(self.offers)}" if self.offers else ""
        return f"preprocessing is assumed, not known: {said}. Say what the network was trained with: {options}{offered}"


def described(preprocess: Preprocess, origins: Origins | None) -> str:
    """One line that says what pictures go through, and which of it is assumed."""
    words = [_value("resize", preprocess), _value("mean", preprocess)]
    if preprocess.scale != 1:
        words.append(f"scale {preprocess.scale:g}")
    if preprocess.channels > 1:
        words.append(preprocess.color.upper())
    words.append(f"resized as by {'OpenCV' if preprocess.resample == 'opencv' else 'Pillow'}")
    if origins is None:
        return "; ".join(words) + " (where from is not recorded)"
    return "; ".join(words) + (f" (assumed: {', '.join(origins.assumed)})" if origins.assumed else " (all known)")


def _value(name: str, preprocess: Preprocess) -> str:
    height, width = preprocess.size
    if name == "mean":
        mean = ", ".join(f"{value:g}" for value in preprocess.mean)
        return f"the mean {mean} is subtracted" if mean else "no mean is subtracted"
    if preprocess.resize is None:
        return f"pictures are squashed to {height}x{width}, whatever their aspect"
    return f"pictures are cropped to {height}x{width} from a shorter side of {preprocess.resize}"
