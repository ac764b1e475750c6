from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from senet_convert.converter.check import synthetic

from .running import One, Refusal, f32, network, normal

WORDS = f32([[0, 3, 2.9], [1, 4, 0.5]])  # cut, not rounded


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(2, 3), (6,), (2, 3, 1)])
def test_embed(one: One, shape: tuple[int, ...], bias: bool) -> None:
    weight, shift = normal(5, 4), normal(4, seed=1)
    x = WORDS.reshape(shape)
    params = f"embed_param {{ input_dim: 5 num_output: 4 bias_term: {str(bias).lower()} }}"
    expected = np.empty((*shape, 4))
    for place in np.ndindex(*shape):
        expected[place] = weight[int(x[place])] + (shift.astype(np.float64) if bias else 0)
    one("Embed", params, x, blobs=[weight, shift] if bias else [weight]).check("y0", expected)


def test_batch_reindex(one: One) -> None:
    x = normal(4, 3, 2)
    order = f32([3, 0, 0, 2, 1, 3])
    one("BatchReindex", "", x, order).check_exactly("y0", x[[3, 0, 0, 2, 1, 3]])
    one("BatchReindex", "", x, order[:4]).check_exactly("y0", x[[3, 0, 0, 2]])


def test_what_no_lookup_can_be(refusal: Refusal) -> None:
    assert "embed_param lacks input_dim" in refusal("Embed", "embed_param { num_output: 3 }", (2, 3))
    assert "input_dim 0" in refusal("Embed", "embed_param { num_output: 3 input_dim: 0 }", (2, 3))
    assert "bottoms of shapes 2x3 and 2x1" in refusal("BatchReindex", "", (2, 3), (2, 1))


def test_the_check_looks_up_what_is_there(tmp_path: Path) -> None:
    text = """
layer { name: "embed" type: "Embed" bottom: "words" top: "e" embed_param { input_dim: 5 num_output: 4 } }
layer { name: "pick" type: "BatchReindex" bottom: "e" bottom: "order" top: "p" }
"""
    graph = network(tmp_path, text, {"words": np.zeros((40, 3)), "order": np.zeros(7)}, {})
    made = synthetic.inputs(graph)
    assert set(made["words"].ravel()) == set(range(5))
    assert made["order"].shape == (7,)
    assert 0 <= made["order"].min() <= made["order"].max() < len(made["words"])
