"""The FCN fork's CROP: offsets as in the published prototxts of FCN, which have them written out for BVLC's Crop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from senet_convert.converter.graph import coordinates
from senet_convert.converter.graph.build import build
from senet_convert.errors import GraphError
from tests.converter.layers.running import run
from tests.nets import definition

HEAD = 'input: "data" input_dim: 1 input_dim: 1 input_dim: SIZE input_dim: 80\n'


def layer(kind: str, name: str, bottoms: str, params: str = "") -> str:
    named = " ".join(f'bottom: "{bottom}"' for bottom in bottoms.split())
    return f'layers {{ type: {kind} name: "{name}" {named} top: "{name}" {params} }}\n'


def convolution(name: str, bottom: str, kernel: int, pad: int = 0) -> str:
    param = f"convolution_param {{ num_output: 1 kernel_size: {kernel} pad: {pad} }}"
    return layer("CONVOLUTION", name, bottom, param)


def upscale(name: str, bottom: str, kernel: int, stride: int) -> str:
    param = f"convolution_param {{ num_output: 1 kernel_size: {kernel} stride: {stride} bias_term: false }}"
    return layer("DECONVOLUTION", name, bottom, param)


def fcn(size: int, coarse: str) -> str:
    """VGG's trunk with a pad of 100, and what FCN puts behind it."""
    text, below = HEAD.replace("SIZE", str(size)), "data"
    for number in range(1, 6):
        text += convolution(f"conv{number}", below, 3, 100 if number == 1 else 1)
        text += layer("RELU", f"relu{number}", f"conv{number}")
        text += layer(
            "POOLING", f"pool{number}", f"relu{number}", "pooling_param { pool: MAX kernel_size: 2 stride: 2 }"
        )
        below = f"pool{number}"
    text += convolution("fc6", "pool5", 7) + layer("DROPOUT", "drop6", "fc6") + convolution("score_fr", "drop6", 1)
    return text + coarse


FCN32 = upscale("up", "score_fr", 64, 32) + layer("CROP", "score", "up data")
FCN8 = (
    upscale("up2", "score_fr", 4, 2)
    + convolution("score4", "pool4", 1)
    + layer("CROP", "score4c", "score4 up2")
    + layer("ELTWISE", "fuse4", "up2 score4c")
    + upscale("up4", "fuse4", 4, 2)
    + convolution("score3", "pool3", 1)
    + layer("CROP", "score3c", "score3 up4")
    + layer("ELTWISE", "fuse3", "up4 score3c")
    + upscale("up8", "fuse3", 16, 8)
    + layer("CROP", "score", "up8 data")
)


@pytest.mark.parametrize("size", [64, 77])
@pytest.mark.parametrize(
    ("coarse", "offsets"), [(FCN32, {"score": 19}), (FCN8, {"score4c": 5, "score3c": 9, "score": 31})]
)
def test_offsets_are_those_of_fcn(tmp_path: Path, size: int, coarse: str, offsets: dict[str, int]) -> None:
    graph = build(definition(tmp_path, fcn(size, coarse)), None)
    found = {node.name: node.layer.offset for node in graph.nodes if node.type == "CROP"}  # type: ignore[attr-defined]
    assert found == {name: (offset, offset) for name, offset in offsets.items()}
    assert graph.shapes["score"] == (1, 1, size, 80)
    assert any("BVLC's Crop has 0" in warning for warning in graph.warnings)


def test_crop_cuts_what_lies_before_and_behind(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(0, 1, (2, 3, 7, 9)).astype(np.float32)
    text = (
        'layer { name: "c" type: "Convolution" bottom: "x" top: "c" convolution_param { num_output: 2 kernel_h: 3 '
        "kernel_w: 5 pad_h: 4 pad_w: 5 } }\n"
        'layer { name: "k" type: "CROP" bottom: "c" bottom: "x" top: "k" }\n'
        'layer { name: "b" type: "Crop" bottom: "c" bottom: "x" top: "b" crop_param { axis: 2 offset: 3 offset: 3 } }\n'
        'layer { name: "d" type: "CROP" bottom: "c" bottom: "b" top: "d" }\n'
    )
    found = run(tmp_path, text, {"x": x})
    for blob in ("k", "d"):
        found.check(blob, found.exact["c"][:, :, 3:10, 3:12])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (upscale("up", "data", 4, 2) + layer("CROP", "c", "up data"), "2 times as many cells as its second"),
        (convolution("k", "data", 2, 4) + layer("CROP", "c", "k data"), "begins 3.5 cells into its first"),
        (convolution("k", "data", 3) + layer("CROP", "c", "k data"), "begins -1 cells into its first"),
    ],
)
def test_what_no_crop_can_be(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(GraphError) as caught:
        build(definition(tmp_path, HEAD.replace("SIZE", "64") + text), None)
    assert words in str(caught.value)
    assert "layer 'c'" in str(caught.value)


def test_maps_of_different_inputs_have_nothing_in_common(tmp_path: Path) -> None:
    text = 'input: "a" input: "b"\n' + 2 * "input_shape { dim: 1 dim: 1 dim: 8 dim: 8 }\n" + layer("CROP", "c", "a b")
    with pytest.raises(GraphError, match="no map that both have in common"):
        build(definition(tmp_path, text), None)


def test_unpooling_of_the_old_form(tmp_path: Path) -> None:
    text = HEAD.replace("SIZE", "64")
    text += 'layers { type: POOLING name: "p" bottom: "data" top: "p" top: "m" '
    text += "pooling_param { kernel_size: 2 stride: 2 } }\n"
    text += layer("UNPOOLING", "u", "p m", "unpooling_param { unpool: MAX kernel_size: 2 stride: 2 unpool_size: 80 }")
    graph = build(definition(tmp_path, text), None)
    assert graph.shapes["u"] == (1, 1, 80, 80)
    assert graph.nodes[1].type == "Unpooling"


def test_an_unknown_type_of_the_old_form_is_told_without_all_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(GraphError) as caught:
        build(definition(tmp_path, HEAD.replace("SIZE", "64") + layer("CONVOLUTOIN", "c", "data")), None)
    assert "field 'type' has no value 'CONVOLUTOIN'; it has 46 others; did you mean 'CONVOLUTION'" in str(caught.value)
    assert "ABSVAL" not in str(caught.value)


@pytest.mark.parametrize(
    "moves", ["reverse_param { axis: 2 }", "permute_param { order: 0 order: 1 order: 3 order: 2 }"]
)
def test_layers_that_move_cells_have_no_place(tmp_path: Path, moves: str) -> None:
    kind = moves.split("_")[0].capitalize()
    text = 'input: "data" input_dim: 1 input_dim: 1 input_dim: 8 input_dim: 8\n'
    text += f'layer {{ type: "{kind}" name: "m" bottom: "data" top: "m" {moves} }}\n'
    text += 'layer { type: "CROP" name: "c" bottom: "m" bottom: "data" top: "c" }\n'
    with pytest.raises(GraphError, match="no map that both have in common"):
        build(definition(tmp_path, text), None)


def test_a_crop_without_parameters_is_caffes_and_told_where_forks_differ(tmp_path: Path) -> None:
    crop = 'layer { type: "Crop" name: "crop" bottom: "k" bottom: "data" top: "crop" PARAM }'
    text = HEAD.replace("SIZE", "64").replace("input_dim", "dim").replace("dim: 1", "input_shape { dim: 1", 1)
    text = text.rstrip() + " }\n"
    text += 'layer { type: "Convolution" name: "k" bottom: "data" top: "k" convolution_param { num_output: 1 '
    text += "kernel_size: 3 pad: 4 } }\n" + crop
    graph = build(definition(tmp_path, text.replace("PARAM", "")), None)
    (warning,) = graph.warnings
    assert "layer 'crop' (line 3): a Crop without crop_param takes the first cells" in warning
    assert "add crop_param { axis: 2 offset: 3 offset: 3 }" in warning
    assert graph.nodes[1].layer.offset == ()  # type: ignore[attr-defined]
    assert build(definition(tmp_path, text.replace("PARAM", "crop_param { offset: 0 }")), None).warnings == ()
    same = text.replace("pad: 4", "pad: 1").replace("PARAM", "")
    assert build(definition(tmp_path, same), None).warnings == ()


def test_many_crops_are_looked_at_within_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each asks for all layers before it: in a long chain that would be their square."""
    monkeypatch.setattr(coordinates, "STEPS", 500)
    text = HEAD.replace("SIZE", "64") + layer("RELU", "c0", "data")
    text += "".join(layer("CROP", f"c{i}", f"c{i - 1} data") for i in range(1, 60))
    with pytest.raises(GraphError, match="takes more than 500 steps to find"):
        build(definition(tmp_path, text), None)
