from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from senet_convert.converter.graph.draft import Options
from senet_convert.converter.layers.activation import ReLU
from senet_convert.converter.report import conversion_options
from senet_convert.converter.report.conversion_options import Recorded
from senet_convert.errors import ConvertError
from senet_convert.proto import State
from tests.nets import write


def carried(data: Any) -> Recorded:
    """As a model with this in its metadata says it."""
    session: Any = SimpleNamespace(metadata={conversion_options.KEY: json.dumps(data)})
    return conversion_options.read(session)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    state, shapes = State("TRAIN", 2, ("a", "b")), {None: (1, 3, 20, 18), "data": (4, 3, 12, 10)}
    options = Options(state, shapes, {"ReLU": ReLU, "Mine": ReLU}, ("pad_type",))
    data = conversion_options.plain(options, 18, write(tmp_path).graph())
    assert data["layers"] == ["ReLU"], "what the network has of them"
    found = carried(data)
    assert found == Recorded(Options(state, shapes, ignore_fields=("pad_type",)), ("ReLU",), 18)
    assert found.with_layers({"ReLU": ReLU}, "model.onnx") == Options(state, shapes, {"ReLU": ReLU}, ("pad_type",))
    with pytest.raises(ConvertError, match=r"^model\.onnx: it was converted with layer types of your own \(ReLU\)"):
        found.with_layers({"Mine": ReLU}, "model.onnx")


def test_a_model_that_says_nothing() -> None:
    session: Any = SimpleNamespace(metadata={})
    assert conversion_options.read(session) == Recorded()
