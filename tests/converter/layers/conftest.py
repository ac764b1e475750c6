from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from senet_convert.errors import GraphError

from .running import BESIDE, SPOILT, One, Outcome, Refusal, f32, layer, run


@pytest.fixture
def one(tmp_path: Path) -> One:
    """Runs one layer: `one("Power", "power_param { scale: 2 }", x)` gives blob y0; its bottoms are x0, x1, ..."""

    def run_one(
        kind: str, params: str, *inputs: np.ndarray, blobs: Sequence[np.ndarray] | None = None, tops: int = 1
    ) -> Outcome:
        named = {f"x{i}": f32(array) for i, array in enumerate(inputs)}
        text = layer(kind, params, len(inputs), tops)
        return run(tmp_path, text, named, {"layer": blobs} if blobs is not None else None)

    return run_one


@pytest.fixture
def unsound(tmp_path: Path) -> One:
    """As `one`, in a network of which some weight is NaN: values may be too."""

    def run_one(
        kind: str, params: str, *inputs: np.ndarray, blobs: Sequence[np.ndarray] | None = None, tops: int = 1
    ) -> Outcome:
        named = {f"x{i}": f32(array) for i, array in enumerate(inputs)}
        given = {"spoilt": [SPOILT], **({} if blobs is None else {"layer": blobs})}
        return run(tmp_path, BESIDE + layer(kind, params, len(inputs), tops), named, given)

    return run_one


@pytest.fixture
def refusal(tmp_path: Path) -> Refusal:
    """What is said to a layer that cannot be: `refusal("Clip", "...", (2, 3))` with the shapes of its bottoms."""

    def refuse(kind: str, params: str, *shapes: tuple[int, ...], tops: int = 1) -> str:
        inputs = {f"x{i}": np.zeros(shape, np.float32) for i, shape in enumerate(shapes)}
        with pytest.raises(GraphError) as caught:
            run(tmp_path, layer(kind, params, len(shapes), tops), inputs)
        message = str(caught.value)
        assert "layer 'layer'" in message
        return message

    return refuse
