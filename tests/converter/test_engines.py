from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from senet_convert.converter import engines as room
from senet_convert.converter.convert import Wishes, convert
from senet_convert.converter.engines import GENERIC, TORCH, engines
from senet_convert.converter.graph.draft import Options
from senet_convert.converter.layers.activation import ReLU
from senet_convert.deploy.model import Model
from senet_convert.errors import ConvertError
from senet_convert.proto import State
from tests.nets import SE_NET, Files, write

BATCH = np.random.default_rng(0).normal(0, 50, (3, 3, 12, 10)).astype(np.float32)


def opened(files: Files, **wishes: object) -> Model:
    folder = files.caffemodel.with_suffix("")
    convert(files.caffemodel, files.prototxt, folder, Wishes(check=False, **wishes), lambda _: None)  # type: ignore[arg-type]
    return Model.open(folder, "cpu")


def test_engines_give_the_files_probabilities(tmp_path: Path) -> None:
    model = opened(write(tmp_path))
    want = model.probabilities(BATCH)
    found = engines([GENERIC, TORCH], model)
    assert [one.engine for one in found] == [GENERIC, TORCH]
    for one in found:
        assert np.abs(one.probabilities(BATCH) - want).max() < 1e-5


def test_the_family_net_computes_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from senet_convert import demo

    with demo.files() as digits:
        files = Files(digits / "deploy.prototxt", digits / f"{demo.NAME}.caffemodel")
        convert(files.caffemodel, files.prototxt, tmp_path / "digits", Wishes(check=False), lambda _: None)
        model = Model.open(tmp_path / "digits", "cpu")
        torch_net, generic = engines([TORCH, GENERIC], model, files.caffemodel)
    batch = np.random.default_rng(0).normal(0, 50, (2, 3, 32, 32)).astype(np.float32)
    assert torch_net.compute is not None
    assert generic.compute is not None
    assert np.abs(generic.compute(batch).sum(axis=1) - 1).max() < 1e-5
    assert np.abs(torch_net.compute(batch).sum(axis=1) - 1).max() > 1e-3, "the family net gives logits"
    assert np.abs(torch_net.probabilities(batch) - generic.probabilities(batch)).max() < 1e-5


def test_an_inner_output(tmp_path: Path) -> None:
    model = opened(write(tmp_path), outputs=("prob", "fc"))
    assert model.output == "fc"
    for one in engines([TORCH, GENERIC], model):
        assert np.abs(one.probabilities(BATCH) - model.probabilities(BATCH)).max() < 1e-5


def test_an_inner_output_of_a_network_with_a_family_net(tmp_path: Path) -> None:
    """The family net gives nothing but the logits: another value is computed layer by layer."""
    from senet_convert import demo

    with demo.files() as digits:
        files = Files(digits / "deploy.prototxt", digits / f"{demo.NAME}.caffemodel")
        wishes = Wishes(check=False, outputs=("prob", "pool5/2x2_s1"))
        convert(files.caffemodel, files.prototxt, tmp_path / "digits", wishes, lambda _: None)
        model = Model.open(tmp_path / "digits", "cpu")
        (torch_net,) = engines([TORCH], model, files.caffemodel)
    assert (model.output, model.outputs) == ("pool5/2x2_s1", 96)
    batch = np.random.default_rng(0).normal(0, 50, (2, 3, 32, 32)).astype(np.float32)
    want = model.session.run({"data": batch}, [model.output])[model.output]
    assert torch_net.compute is not None
    assert np.abs(torch_net.compute(batch) - want).max() < 1e-4 * np.abs(want).max()


@pytest.mark.parametrize("definition", [True, False])
@pytest.mark.parametrize("wishes", [{"options": Options(input_shapes={None: (1, 3, 20, 18)})}, {"size": 18}])
def test_another_input_size_is_the_models(wishes: dict[str, object], definition: bool, tmp_path: Path) -> None:
    """With the bundle's own definition, and with the files as they were given."""
    text = SE_NET.replace("kernel_size: 3 stride: 2", "pool: AVE global_pooling: true")
    files = write(tmp_path, text)
    model = opened(files, **wishes)
    if not definition:
        (tmp_path / "net" / "model.prototxt").unlink()
    batch = np.random.default_rng(0).normal(0, 50, (2, 3, *model.preprocess.size)).astype(np.float32)
    (one,) = engines([GENERIC], model)
    assert np.abs(one.probabilities(batch) - model.probabilities(batch)).max() < 1e-5


def test_a_classifier_that_was_permuted(tmp_path: Path) -> None:
    files = write(tmp_path, SE_NET.replace("num_output: 7", "num_output: 1000"))
    model = opened(files, labels="devkit", class_order="sorted")
    (one,) = engines([TORCH], model)
    assert np.abs(one.probabilities(BATCH) - model.probabilities(BATCH)).max() < 1e-5


def test_the_source_is_looked_for_beside_the_bundle(tmp_path: Path) -> None:
    model = opened(write(tmp_path))
    (tmp_path / "net.caffemodel").rename(tmp_path / "other.caffemodel")
    with pytest.raises(ConvertError, match=r"net\.caffemodel is not beside .*; name it with --caffemodel"):
        engines([TORCH], model)
    assert engines([TORCH], model, tmp_path / "other.caffemodel", tmp_path / "net.prototxt")


def test_another_caffemodel_is_refused(tmp_path: Path) -> None:
    model = opened(write(tmp_path))
    path = tmp_path / "net.caffemodel"
    path.write_bytes(path.read_bytes() + b"\x0a\x01x")
    with pytest.raises(ConvertError, match="was not made from this file: its SHA-256 is"):
        engines([TORCH], model)


def test_another_definition_is_refused(tmp_path: Path) -> None:
    model = opened(write(tmp_path))
    (tmp_path / "few.prototxt").write_text(SE_NET.split('layer { name: "prob"')[0])
    with pytest.raises(ConvertError, match="has no blob 'prob', only data, conv, gap"):
        engines([TORCH], model, None, tmp_path / "few.prototxt")
    (tmp_path / "other.prototxt").write_text(SE_NET.replace('"fc" top: "prob"', '"pool" top: "prob"'))
    with pytest.raises(ConvertError, match=r"its blob 'prob' is .*, not of 7 classes"):
        engines([TORCH], model, None, tmp_path / "other.prototxt")


STAGED = SE_NET.replace(
    'layer { name: "gate" type: "Sigmoid" bottom: "down" top: "down" }',
    """layer { name: "gate" type: "Sigmoid" bottom: "down" top: "down" include { stage: "serve" min_level: 2 } }
layer { name: "gate" type: "TanH" bottom: "down" top: "down" include { phase: TRAIN not_stage: "serve" } }""",
)


@pytest.mark.parametrize("definition", [True, False])
@pytest.mark.parametrize("state", [State("TEST", 2, ("serve",)), State("TRAIN")])
def test_phase_level_and_stage_of_the_conversion_hold(state: State, definition: bool, tmp_path: Path) -> None:
    """The parameter `definition`: with the bundle's own definition, and with the files as they were given."""
    model = opened(write(tmp_path, STAGED), options=Options(state))
    if not definition:
        (tmp_path / "net" / "model.prototxt").unlink()
    (one,) = engines([GENERIC], model)
    assert np.abs(one.probabilities(BATCH) - model.probabilities(BATCH)).max() < 1e-5


@pytest.mark.parametrize("prototxt", [None, "net.prototxt"])
def test_fields_that_the_conversion_passed_over_are_passed_over(prototxt: str | None, tmp_path: Path) -> None:
    files = write(tmp_path)
    text = files.prototxt.read_text().replace("kernel_size: 3 stride: 2", "kernel_size: 3 stride: 2 pad_type: 1")
    files.prototxt.write_text(text)
    model = opened(files, options=Options(ignore_fields=("pad_type",)))
    (one,) = engines([GENERIC], model, None, tmp_path / prototxt if prototxt else None)
    assert np.abs(one.probabilities(BATCH) - model.probabilities(BATCH)).max() < 1e-5


@dataclass(frozen=True)
class MyReLU(ReLU):
    """A layer type of one's own."""


@pytest.mark.parametrize("definition", [True, False])
def test_layer_types_of_ones_own_are_given_again(definition: bool, tmp_path: Path) -> None:
    files = write(tmp_path)
    files.prototxt.write_text(files.prototxt.read_text().replace('"ReLU"', '"MyReLU"'))
    model = opened(files, options=Options(layers={"MyReLU": MyReLU, "Unused": ReLU}))
    if not definition:
        (tmp_path / "net" / "model.prototxt").unlink()
    (one,) = engines([GENERIC], model, layers={"MyReLU": MyReLU})
    assert np.abs(one.probabilities(BATCH) - model.probabilities(BATCH)).max() < 1e-5
    with pytest.raises(ConvertError, match=r"layer types of your own \(MyReLU\); give the file .* with --layers"):
        engines([GENERIC], model)


def test_names() -> None:
    from senet_convert.commands.validate import ENGINES
    from senet_convert.deploy.model import ONNX

    assert ENGINES == (ONNX, room.TORCH, room.GENERIC)


def test_the_definition_that_the_conversion_took_is_taken_again(tmp_path: Path) -> None:
    """Here the caffemodel's own, though another prototxt lies beside it."""
    files = write(tmp_path)
    folder = tmp_path / "net"
    convert(files.caffemodel, None, folder, Wishes(check=False), lambda _: None)
    (folder / "model.prototxt").unlink()
    files.prototxt.write_text(SE_NET.replace("num_output: 7", "num_output: 8"))
    model = Model.open(folder, "cpu")
    (one,) = engines([GENERIC], model)
    assert np.abs(one.probabilities(BATCH) - model.probabilities(BATCH)).max() < 1e-5
