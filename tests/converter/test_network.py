from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import senet_convert
from senet_convert.converter.graph.build import build
from senet_convert.converter.graph.draft import Options
from senet_convert.converter.network import find_prototxt, prototxt_of, read, realise
from senet_convert.errors import ConvertError, ReadError, WeightsError
from senet_convert.proto import read_caffemodel
from tests.nets import INPUT, SE_NET, write
from tests.paths import GOLDEN


def test_load_gives_caffes_numbers() -> None:
    for case in ("se_resnet", "se_bn_inception"):
        with np.load(GOLDEN / case / "inputs.npz") as inputs, np.load(GOLDEN / case / "outputs.npz") as outputs:
            x, logits = torch.from_numpy(inputs["data"]), outputs["classifier"]
        model = senet_convert.load(str(GOLDEN / case / "net.caffemodel"))
        with torch.no_grad():
            found = model(x).numpy()
        assert np.abs(found - logits).max() <= 5e-5 * np.abs(logits).max()
        assert not model.training


def test_the_prototxt_beside_the_model_is_found(tmp_path: Path) -> None:
    model = tmp_path / "net.caffemodel"
    assert find_prototxt(model) is None
    (tmp_path / "deploy.prototxt").touch()
    assert find_prototxt(model) == tmp_path / "deploy.prototxt"
    (tmp_path / "net.prototxt").touch()
    assert find_prototxt(model) == tmp_path / "net.prototxt"


def test_what_is_wrong_with_both_files_is_told(tmp_path: Path) -> None:
    files = write(tmp_path)
    files.prototxt.write_text("layer {")
    files.caffemodel.write_bytes(files.caffemodel.read_bytes()[:-100])
    with pytest.raises(ReadError) as caught:
        senet_convert.load(files.caffemodel)
    first, second = str(caught.value).splitlines()
    assert first.startswith(f"{files.caffemodel}: truncated or damaged")
    assert second.startswith(f"{files.prototxt}:1:8: ")


def test_shared_weights_are_written_under_every_name(tmp_path: Path) -> None:
    text = INPUT + "".join(
        f'layer {{ name: "{name}" type: "InnerProduct" bottom: "data" top: "{name}" param {{ name: "w" }}\n'
        "inner_product_param { num_output: 2 bias_term: false } }\n"
        for name in ("a", "b")
    )
    files = write(tmp_path, text)
    weights = read_caffemodel(files.caffemodel)
    same = replace(weights, layers=(*weights.layers[:2], replace(weights.layers[2], blobs=weights.layers[1].blobs)))
    graph = build(same, same)
    assert list(graph.accounts.arrays) == ["a/weight"]
    assert realise(same, graph).names == {"a/weight": "weights.a/weight"}


def test_a_prototxt_that_was_found_is_no_longer_sure_where_the_weights_do_not_fit(tmp_path: Path) -> None:
    """What was given stands; the caffemodel itself stands for its own definition, and is what the advice names."""
    files = write(tmp_path)
    files.prototxt.rename(tmp_path / "mine.prototxt")
    other = tmp_path / "deploy.prototxt"
    other.write_text(SE_NET.replace("num_output: 7", "num_output: 8"))
    with pytest.raises(WeightsError) as caught:
        senet_convert.load(files.caffemodel)
    assert f"{other} was not given, it was found beside the caffemodel" in str(caught.value)
    assert f"--prototxt {files.caffemodel} for the definition" in str(caught.value)
    with pytest.raises(WeightsError) as caught:
        senet_convert.load(files.caffemodel, other)
    assert "was not given" not in str(caught.value)
    with prototxt_of(files.caffemodel, files.caffemodel) as chosen:
        assert chosen is None
    for prototxt in (files.caffemodel, tmp_path / "mine.prototxt"):
        assert len(list(senet_convert.load(files.caffemodel, prototxt).parameters())) == 9


def test_load_tells_what_is_strange(tmp_path: Path) -> None:
    files = write(tmp_path)
    files.prototxt.write_text(SE_NET.split('layer { name: "fc"')[0])
    with pytest.warns(UserWarning, match="holds weights for layers that the network does not run: fc") as caught:
        senet_convert.load(files.caffemodel)
    assert [item.filename for item in caught] == [__file__]


def test_load_takes_shapes_and_a_phase(tmp_path: Path) -> None:
    files = write(tmp_path)
    x = torch.zeros(1, 3, 12, 10)
    text = SE_NET.replace("input_param { shape { dim: 2 dim: 3 dim: 12 dim: 10 } }", "")
    files.prototxt.write_text(text.replace('name: "prob" type', 'name: "prob" include { phase: TRAIN } type'))
    with pytest.raises(ConvertError, match=r"input 'data' has no shape: .* \(in Python: input_shapes\)"):
        senet_convert.load(files.caffemodel)
    tested = senet_convert.load(files.caffemodel, input_shapes={"data": [1, 3, 12, 10]})(x)
    trained = senet_convert.load(files.caffemodel, input_shapes={"data": (1, 3, 12, 10)}, phase="TRAIN")(x)
    assert torch.allclose(torch.softmax(tested, 1), trained)
    with pytest.raises(ConvertError, match="phase 'test': a network is built for TEST or for TRAIN"):
        senet_convert.load(files.caffemodel, phase="test")


def test_load_refuses_files_that_are_none(tmp_path: Path) -> None:
    files = write(tmp_path)
    for caffemodel, prototxt in [(tmp_path / "no", None), (tmp_path, None), (files.caffemodel, tmp_path / "no")]:
        with pytest.raises(ConvertError):
            senet_convert.load(caffemodel, prototxt)


PLAIN = """layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 4 dim: 5 } } }
layer { name: "up" type: "Pooling" bottom: "data" top: "up" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "soft" type: "Softmax" bottom: "up" top: "soft" }
"""
BILINEAR = """layer { name: "up" type: "Deconvolution" bottom: "data" top: "up" convolution_param { num_output: 3
        group: 3 kernel_size: KERNEL stride: 2 pad: 1 bias_term: false weight_filler { type: "bilinear" } } }
"""


@pytest.mark.parametrize("empty", [None, b"", b"\x0a\x03net"])
def test_a_network_without_weights_needs_none(tmp_path: Path, empty: bytes | None) -> None:
    """Its prototxt is enough; so is a caffemodel with nothing in it, or only a name."""
    prototxt, caffemodel = tmp_path / "net.prototxt", tmp_path / "net.caffemodel"
    prototxt.write_text(PLAIN)
    caffemodel.write_bytes(empty or b"")
    (tmp_path / "deploy.prototxt").write_text("another: 1")  # not for a file that is a prototxt itself
    model = senet_convert.load(prototxt if empty is None else caffemodel, None if empty is None else prototxt)
    x = torch.randn(2, 3, 4, 5)
    wanted = torch.softmax(torch.nn.functional.max_pool2d(x, 2, ceil_mode=True), 1)
    torch.testing.assert_close(model(x), wanted)


def test_a_network_with_weights_needs_them(tmp_path: Path) -> None:
    files = write(tmp_path)
    with pytest.raises(ConvertError, match=r"layers 'conv', .* have trained weights: give the caffemodel"):
        senet_convert.load(files.prototxt)
    empty = tmp_path / "empty.caffemodel"
    empty.write_bytes(b"")
    with pytest.raises(ConvertError, match=r"the file is empty \(0 bytes\)"):
        senet_convert.load(empty, files.prototxt)


def test_faults_of_a_network_beside_an_empty_caffemodel_are_told(tmp_path: Path) -> None:
    """As those of a prototxt alone; a Parameter layer as the only source has its reason."""
    prototxt, empty = tmp_path / "net.prototxt", tmp_path / "empty.caffemodel"
    prototxt.write_text('layer { name: "p" type: "Parameter" top: "p" parameter_param { shape { dim: 2 } } }\n')
    empty.write_bytes(b"")
    with pytest.raises(ConvertError, match=r"comes from Parameter layers alone \('p'\)"):
        senet_convert.load(empty, prototxt)
    with pytest.raises(ConvertError, match=r"comes from Parameter layers alone \('p'\)"):
        senet_convert.load(prototxt)


def test_a_prototxt_alone_that_cannot_be_read_says_where(tmp_path: Path) -> None:
    prototxt = tmp_path / "net.prototxt"
    prototxt.write_text(PLAIN + 'layer { name: "x"')
    with pytest.raises(ReadError, match="line 4"):
        senet_convert.load(prototxt)
    text = prototxt.rename(tmp_path / "net.caffemodel")
    with pytest.raises(ReadError, match="not a caffemodel: it is a text file"):
        senet_convert.load(text)


def test_a_network_without_weights_is_cut_before_what_is_unknown(tmp_path: Path) -> None:
    prototxt = tmp_path / "net.prototxt"
    prototxt.write_text(PLAIN + 'layer { name: "y" type: "Region" bottom: "data" top: "y" region_param { n: 1 } }\n')
    with pytest.raises(ConvertError, match="layer type 'Region' is not supported"):
        read(prototxt, None, Options())
    _, built, _ = read(prototxt, None, Options(), outputs=["soft"])
    assert "'y' (Region)" in built.warnings[-1]


def bilinear(kernel: int) -> np.ndarray:
    """BilinearFiller of filler.hpp."""
    f = -(-kernel // 2)
    c = (kernel - 1) / (2.0 * f)
    return np.asarray([[(1 - abs(x / f - c)) * (1 - abs(y / f - c)) for x in range(kernel)] for y in range(kernel)])


@pytest.mark.parametrize("kernel", [3, 4])
def test_an_upscaler_of_fixed_filters_needs_no_weights(tmp_path: Path, kernel: int) -> None:
    prototxt = tmp_path / "net.prototxt"
    text = PLAIN[: PLAIN.index('layer { name: "up"')] + BILINEAR.replace("KERNEL", str(kernel))
    prototxt.write_text(text)
    with pytest.warns(UserWarning, match="fixed filters: layers 'up' hold the weights of their bilinear weight_filler"):
        model = senet_convert.load(prototxt)
    x = torch.randn(2, 3, 4, 5)
    weight = torch.from_numpy(np.broadcast_to(bilinear(kernel), (3, 1, kernel, kernel)).astype(np.float32))
    wanted = torch.nn.functional.conv_transpose2d(x, weight, stride=2, padding=1, groups=3)
    torch.testing.assert_close(model(x), wanted)
    for learned in ("weight_filler", "bias_term"):  # another filler, or a bias, is a start of training
        changed = (
            text.replace('"bilinear"', '"xavier"') if learned == "weight_filler" else text.replace("false", "true")
        )
        prototxt.write_text(changed)
        with pytest.raises(ConvertError, match="its layers 'up' have trained weights: give the caffemodel"):
            senet_convert.load(prototxt)
