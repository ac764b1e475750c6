from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from .running import One, Refusal, f32, normal, run
from .test_forks_shape import placed

X = normal(2, 3, 4, 5)


@pytest.mark.parametrize(
    ("params", "size"),
    [
        ("unpool: MAX kernel_size: 2 stride: 2 unpool_size: 11", (11, 11)),
        ("kernel_size: 2 stride: 2", (9, 11)),
        ("kernel_size: 4 stride: 2", (10, 12)),
        ("kernel_size: 3 stride: 2 pad: 1", (8, 10)),
        ("kernel_h: 2 kernel_w: 4 stride_h: 3 stride_w: 2 pad_w: 1", (13, 10)),
        ("unpool_h: 8 unpool_w: 10", (8, 10)),
    ],
)
def test_unpooling_to_places(one: One, params: str, size: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    places = f32([random.permutation(size[0] * size[1])[:20] for _ in range(6)]).reshape(X.shape)
    one("Unpooling", f"unpooling_param {{ {params} }}", X, places).check_exactly("y0", placed(X, places, *size))


def test_unpooling_undoes_a_pooling(tmp_path: Path) -> None:
    x = normal(2, 3, 8, 8)
    text = (
        'layer { name: "p" type: "Pooling" bottom: "x" top: "p" top: "m" pooling_param { kernel_size: 2 stride: 2 } }\n'
        'layer { name: "u" type: "Unpooling" bottom: "p" bottom: "m" top: "u" '
        "unpooling_param { unpool: MAX kernel_size: 2 stride: 2 unpool_size: 8 } }\n"
    )
    found = run(tmp_path, text, {"x": x})
    found.check_exactly("u", placed(found.exact["p"], found.exact["m"], 8, 8))


def test_what_no_unpooling_can_be(refusal: Refusal) -> None:
    shape = (2, 3, 4, 5)
    assert "unpool: AVE spreads values" in refusal("Unpooling", "unpooling_param { unpool: AVE }", shape, shape)
    assert "it has one bottom" in refusal("Unpooling", "unpooling_param { unpool_size: 8 }", shape)
    assert "neither unpool_size nor kernel_size" in refusal("Unpooling", "", shape, shape)
    assert "places alike" in refusal("Unpooling", "unpooling_param { unpool_size: 8 }", shape, (2, 3, 4, 4))


def test_unpooling_in_the_form_of_2014(tmp_path: Path) -> None:
    """As DeconvNet and its like are published: `layers`, types in capitals, BN with two blobs."""
    x = normal(2, 3, 8, 8)
    text = (
        'layers { name: "p" type: POOLING bottom: "x" top: "p" top: "m" pooling_param { kernel_size: 2 stride: 2 } }\n'
        'layers { name: "bn" type: BN bottom: "p" top: "bn" bn_param { bn_mode: INFERENCE } }\n'
        'layers { name: "u" type: UNPOOLING bottom: "bn" bottom: "m" top: "u" '
        "unpooling_param { unpool: MAX kernel_size: 2 stride: 2 unpool_size: 8 } }\n"
        'layers { name: "accuracy" type: ELTWISE_ACCURACY bottom: "u" bottom: "x" top: "accuracy" }\n'
    )
    header = 'input: "x" input_dim: 2 input_dim: 3 input_dim: 8 input_dim: 8\n'
    scale, shift = (f32([0.5, 2, -1]).reshape(1, 3, 1, 1), f32([0, 1, 2]).reshape(1, 3, 1, 1))
    found = run(tmp_path, header + text, {"x": x}, {"bn": [scale, shift]})
    pooled = x.reshape(2, 3, 4, 2, 4, 2).max((3, 5))
    found.check("bn", pooled * scale + shift)
    found.check("u", placed(found.exact["bn"], found.exact["m"], 8, 8))
