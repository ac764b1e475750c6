from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from senet_convert.converter.check.inputs import prepare
from senet_convert.converter.graph.graph import Graph
from senet_convert.deploy.images.images import read_image
from senet_convert.deploy.images.preprocess import Preprocess
from senet_convert.errors import CheckError, ConvertError
from tests.nets import SE_NET, write

BLOB = Preprocess((12, 10), 14, (1.0, 2.0, 3.0), 0.5)
PICTURES = Preprocess((12, 10), 14, (1.0, 2.0, 3.0), 0.5, input="image")
WHOLE = Preprocess((12, 10), 14, (1.0, 2.0, 3.0), 0.5, input="image", any_size=True)


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    return write(tmp_path).graph()


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    made = [tmp_path / "a.png", tmp_path / "b.png"]
    for path, side in zip(made, [(20, 33), (41, 9)], strict=True):
        assert cv2.imwrite(str(path), np.random.default_rng(side).integers(0, 256, (*side, 3), dtype=np.uint8))
    return made


def test_the_network_gets_the_same_whatever_the_file_takes(graph: Graph, images: list[Path]) -> None:
    """What the network takes comes from the preprocessing outside; the file gets what it is made for."""
    blob, pictures, whole = (prepare(graph, preprocess, images, None) for preprocess in (BLOB, PICTURES, WHOLE))
    expected = BLOB.batch([read_image(path) for path in images])
    for trial in (blob, pictures, whole):
        assert list(trial.inputs) == ["data"]
        assert np.array_equal(trial.inputs["data"], expected)
    assert blob.fed is None
    assert pictures.fed is not None
    assert [feeds["image"].shape for feeds in pictures.fed] == [(2, 12, 10, 3)]
    assert np.array_equal(PICTURES.planes(pictures.fed[0]["image"]), expected)
    assert whole.fed is not None
    assert [feeds["image"].shape for feeds in whole.fed] == [(1, 20, 33, 3), (1, 41, 9, 3)]
    assert (blob.described, pictures.described) == ("2 images", "2 images")
    assert whole.described == "2 images, resized and cropped by the ONNX file (20x33, 41x9)"


def test_synthetic_ones(graph: Graph) -> None:
    pictures = prepare(graph, PICTURES, (), None)
    assert pictures.fed is not None
    assert np.array_equal(pictures.inputs["data"], PICTURES.planes(pictures.fed[0]["image"]))
    whole = prepare(graph, WHOLE, (), None)
    assert whole.fed is not None
    assert len(whole.inputs["data"]) == len(whole.fed) == 6
    assert len({feeds["image"].shape for feeds in whole.fed}) == 6
    assert prepare(graph, None, (), None).described == "synthetic inputs"


def test_what_is_refused(graph: Graph, images: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match="--images needs a network with one image input"):
        prepare(graph, None, images, None)
    broken = tmp_path / "broken.png"
    broken.write_bytes(images[0].read_bytes()[:40])
    with pytest.raises(ConvertError, match=r"gone\.png: .*no such file.*\n.*broken\.png: OpenCV cannot"):
        prepare(graph, BLOB, [tmp_path / "gone.png", images[0], broken], None)
    with pytest.raises(CheckError, match=r"not a file that numpy\.savez wrote"):
        prepare(graph, BLOB, (), images[0])


def test_a_batch_that_the_network_fixes(images: list[Path], tmp_path: Path) -> None:
    fixed = 'layer { name: "r" type: "Reshape" bottom: "prob" top: "r" reshape_param { shape { dim: 2 dim: 7 } } }'
    graph = write(tmp_path, SE_NET + fixed).graph()
    assert prepare(graph, BLOB, images, None).inputs["data"].shape == (2, 3, 12, 10)
    with pytest.raises(ConvertError, match="the network takes batches of 2 images, not 3"):
        prepare(graph, BLOB, [*images, images[0]], None)


def test_a_reference_says_how_much_of_the_network_it_has(graph: Graph, tmp_path: Path) -> None:
    data = np.ones((2, 3, 12, 10), np.float32)
    path = tmp_path / "blobs.npz"
    np.savez(path, data=data, fc=np.ones((2, 7), np.float32), unknown=data)
    found = prepare(graph, None, (), path)
    assert found.described == f"the inputs of {path}, which has 1 of {len(graph.blobs) - 1} other blobs"
    assert np.array_equal(found.inputs["data"], data)
    assert found.reference is not None
    assert list(found.reference) == ["data", "fc"]
