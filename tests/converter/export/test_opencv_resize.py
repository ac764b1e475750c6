"""The nodes against cv2.resize itself, to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from senet_convert.converter.export.nodes import Front
from senet_convert.converter.export.onnx import OPSETS
from senet_convert.converter.export.opencv_resize import resized_and_cropped
from senet_convert.deploy.images.preprocess import Preprocess
from senet_convert.deploy.runtime.session import Session, newest_opset

# Landscape, portrait, one pixel in either direction or both, exactly the input, twice it, the least that can be.
SIDES = [
    *((375, 500), (500, 333), (64, 64), (32, 32), (33, 31), (2, 3)),
    *((1, 1), (1, 40), (40, 1), (1, 2), (31, 1000), (7, 5), (128, 72)),
]


def session(folder: Path, preprocess: Preprocess, opset: int = 17) -> Session:
    front = Front("image")
    value = resized_and_cropped(front, "image", preprocess)
    ends = [
        helper.make_tensor_value_info("image", TensorProto.UINT8, [1, "height", "width", preprocess.channels]),
        helper.make_tensor_value_info(value, TensorProto.INT32, [1, *preprocess.size, preprocess.channels]),
    ]
    made = [numpy_helper.from_array(array, name) for name, array in front.constants.items()]
    graph = helper.make_graph(front.nodes, "resize", ends[:1], ends[1:], made)
    imports = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=helper.find_min_ir_version_for(imports))
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(folder / "resize.onnx"))
    return Session(folder / "resize.onnx")


def taken(side: tuple[int, int], channels: int = 3) -> NDArray[Any]:
    return np.random.default_rng(side).integers(0, 256, (*side, channels), dtype=np.uint8)


@pytest.mark.parametrize(
    "preprocess",
    [
        Preprocess((32, 32), 36, input="image", any_size=True),
        Preprocess((32, 32), 32, input="image", any_size=True),
        Preprocess((32, 32), input="image", any_size=True),
        Preprocess((17, 23), 24, input="image", any_size=True),
        Preprocess((23, 17), input="image", any_size=True),
        Preprocess((1, 1), 3, channels=1, input="image", any_size=True),
        Preprocess((224, 224), 256, input="image", any_size=True),
    ],
)
def test_the_crop_is_opencvs_to_the_bit(preprocess: Preprocess, tmp_path: Path) -> None:
    model = session(tmp_path, preprocess)
    outside = preprocess.outside()
    for side in SIDES:
        picture = taken(side, preprocess.channels)
        (found,) = model.run({"image": picture[None]}).values()
        assert np.array_equal(found[0].transpose(2, 0, 1), outside.apply(picture[:, :, ::-1])[::-1]), side


def test_opencv_is_asked_directly(tmp_path: Path) -> None:
    """Not by way of Preprocess: the shorter side to 36, half to even, and the offsets rounded down."""
    model = session(tmp_path, Preprocess((32, 32), 36, input="image", any_size=True))
    picture = taken((8, 11))  # 11 * 36 / 8 = 49.5
    (found,) = model.run({"image": picture[None]}).values()
    want = cv2.resize(picture, (50, 36), interpolation=cv2.INTER_LINEAR)[2:34, 9:41]
    assert np.array_equal(found[0], want)


@pytest.mark.parametrize("opset", [OPSETS[0], newest_opset(OPSETS[-1])])
def test_every_opset(opset: int, tmp_path: Path) -> None:
    preprocess = Preprocess((12, 10), 14, input="image", any_size=True)
    picture = taken((31, 17))
    (found,) = session(tmp_path, preprocess, opset).run({"image": picture[None]}).values()
    assert np.array_equal(found[0].transpose(2, 0, 1), preprocess.outside().apply(picture))
