from __future__ import annotations

import numpy as np
from onnx import TensorProto

from senet_convert.converter.export.nodes import Front


def test_names_values_and_constants() -> None:
    front = Front("image")
    first = front("Sub", "image", np.array([1, 2], np.float32))
    second = front("Sub", first, np.array(3, np.int32))
    last = front("Cast", second, to=TensorProto.FLOAT, result="data")
    assert (first, second, last) == ("image:Sub", "image:Sub2", "data")
    assert [list(node.input) for node in front.nodes] == [
        ["image", "image:Sub:constant"],
        ["image:Sub", "image:Sub2:constant"],
        ["image:Sub2"],
    ]
    assert len({node.name for node in front.nodes}) == 3
    assert front.nodes[2].attribute[0].i == TensorProto.FLOAT
    assert {name: array.tolist() for name, array in front.constants.items()} == {
        "image:Sub:constant": [1, 2],
        "image:Sub2:constant": 3,
    }
    assert front.constants["image:Sub2:constant"].dtype == np.int32
