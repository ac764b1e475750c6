from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from senet_convert.errors import GraphError

from .running import normal, run

TEXT = """
layer { name: "learned" type: "Parameter" top: "p" parameter_param { shape { dim: 3 dim: 4 } } }
layer { name: "sum" type: "Bias" bottom: "x" bottom: "p" top: "y" }
"""


def test_a_learned_blob_is_a_top(tmp_path: Path) -> None:
    x, value = normal(2, 3, 4), normal(3, 4, seed=1)
    found = run(tmp_path, TEXT, {"x": x}, {"learned": [value]})
    found.check_exactly("p", value)
    found.check("y", x.astype(np.float64) + value)
    assert found.graph.nodes[0].weights == ("learned/value",)
    assert found.graph.batched["p"] == (3, 4)


def test_its_shape_must_be_one(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match=r"layer 'learned'.*shape 3x0; all dimensions must be at least 1"):
        run(tmp_path, TEXT.replace("dim: 4", "dim: 0"), {"x": normal(2, 3, 4)})
