from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from senet_convert.converter.check import synthetic
from tests.nets import write


def test_pictures_are_the_same_bits_everywhere() -> None:
    digest = hashlib.sha256(synthetic.smooth("data/0", 60, 80, 3).tobytes()).hexdigest()
    assert digest == "61572b86234f1f194d756bc649338b2e5b22202a60321cf0e98ec44a728ffaa6"


def test_pictures_are_smooth_and_full_of_contrast() -> None:
    picture = synthetic.smooth("data/0", 224, 224, 3).astype(int)
    assert picture.shape == (224, 224, 3)
    steps = np.abs(np.diff(picture, axis=0)).mean()
    assert steps < 3
    assert picture.std() > 20
    assert not np.array_equal(picture, synthetic.smooth("data/1", 224, 224, 3))


def test_inputs_fit_the_graph(tmp_path: Path) -> None:
    found = synthetic.inputs(write(tmp_path).graph(), mean=(104, 117, 123), scale=0.5)["data"]
    assert found.shape == (synthetic.MOST, 3, 12, 10)
    assert found.dtype == np.float32
    first = synthetic.smooth("data/0", 12, 10, 3)
    assert found[0, 2, 5, 7] == (first[5, 7, 2] - np.float32(123)) * np.float32(0.5)


def test_a_fixed_batch_is_kept_and_other_shapes_get_noise(tmp_path: Path) -> None:
    text = (
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 6 } } }\n'
        'layer { name: "r" type: "Reshape" bottom: "x" top: "r" reshape_param { shape { dim: 3 dim: 4 } } }'
    )
    found = synthetic.inputs(write(tmp_path, text).graph())["x"]
    assert found.shape == (2, 6)
    assert len(np.unique(found)) == 12
