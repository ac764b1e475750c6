"""One version of a model: what it takes and gives, and how it is run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from senet_convert.deploy.runtime import session as sessions
from senet_convert.deploy.runtime.providers import Tuning
from senet_convert.deploy.runtime.session import Run, Session
from senet_convert.deploy.serve.models.errors import InvalidInput
from senet_convert.deploy.serve.models.served import DATATYPES, FREE, Array, Engine, Served, Spec, model_file
from senet_convert.errors import ConvertError
from tests.deploy.serve import toys

ONE = Engine(threads=1)


def opened(file: Path, engine: Engine = ONE) -> Served:
    return Served.open("toy", "1", file, engine)


def refused(served: Served, **feeds: Array) -> str:
    with pytest.raises(InvalidInput) as caught:
        served.rows(feeds)
    return caught.value.message


def test_inputs_and_outputs_in_the_protocol_s_terms(tmp_path: Path) -> None:
    served = opened(toys.echo(tmp_path / "echo.onnx"))
    assert served.inputs == tuple(Spec(f"in_{name}", name, (FREE, FREE)) for name in DATATYPES)
    assert served.outputs == tuple(Spec(f"out_{name}", name, (FREE, FREE)) for name in DATATYPES)
    assert [spec.dtype for spec in served.inputs] == [np.dtype(kind) for kind in DATATYPES.values()]
    assert str(served.inputs[-1]) == "'in_FP64' FP64 [-1, -1]"


def test_a_bundle_is_a_classifier_and_other_models_say_why_not(bundle: Path, tmp_path: Path) -> None:
    served = opened(bundle / "model.onnx")
    assert served.classifier is not None
    assert served.classes.labels[0] == served.classifier.classes.labels[0]
    other = opened(toys.plus(tmp_path / "plus.onnx", 1))
    assert other.classifier is None
    assert "does not say how an image becomes its input" in other.unfit


def noted_sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The batch sizes of runs from now on, as they happen."""
    sizes: list[int] = []
    original = Session.run

    def noting(
        self: Session, feeds: dict[str, Array], outputs: list[str] | None = None, run: Run | None = None
    ) -> dict[str, Array]:
        sizes.append(len(feeds["x"]))
        return original(self, feeds, outputs, run)

    monkeypatch.setattr(Session, "run", noting)
    return sizes


def test_the_first_request_finds_everything_warm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = noted_sizes(monkeypatch)
    file = toys.plus(tmp_path / "plus.onnx", 1)
    opened(file, dataclasses.replace(ONE, max_batch=5))
    assert sizes == [1, 5]
    sizes.clear()
    opened(file, dataclasses.replace(ONE, instances=2, max_batch=1))
    assert sizes == [1, 1]
    sizes.clear()
    monkeypatch.setattr(Session, "buckets", (2, 4, 8, 16))
    opened(file, dataclasses.replace(ONE, max_batch=5))
    assert sizes == [2, 4, 8], "a batch of 5 is run as one of 8"


def test_what_a_request_holds(tmp_path: Path) -> None:
    served = opened(toys.plus(tmp_path / "plus.onnx", 1), dataclasses.replace(ONE, max_batch=4))
    assert served.rows({"x": np.zeros((4, 3), np.float32)}) == 4
    assert refused(served) == "model 'toy': input x is missing; it takes 'x' FP32 [-1, 3]"
    assert "has no input 'z'; it has 'x' FP32" in refused(
        served, x=np.zeros((1, 3), np.float32), z=np.zeros((1, 3), np.float32)
    )
    assert "is FP64; it takes 'x' FP32 [-1, 3]" in refused(served, x=np.zeros((1, 3)))
    assert "is uint16; it takes" in refused(served, x=np.zeros((1, 3), np.uint16))
    assert "has shape [1, 4]" in refused(served, x=np.zeros((1, 4), np.float32))
    assert "has shape [3]" in refused(served, x=np.zeros(3, np.float32))
    assert "is empty: shape [0, 3]" in refused(served, x=np.zeros((0, 3), np.float32))
    assert "5 items in one request; it takes at most 4" in refused(served, x=np.zeros((5, 3), np.float32))
    with pytest.raises(InvalidInput, match="has no output 'z'; it has 'y' FP32"):
        served.output("z")


def test_several_inputs_hold_as_many_items_each(tmp_path: Path) -> None:
    served = opened(toys.total(tmp_path / "total.onnx"))
    a, b = np.ones((2, 2), np.float32), np.full((2, 2), 3, np.float32)
    assert served.rows({"a": a, "b": b}) == 2
    assert "different numbers of items: [1, 2]" in refused(served, a=a, b=b[:1])
    assert "input b is missing" in refused(served, a=a)
    np.testing.assert_array_equal(served.run(0, {"b": b, "a": a}, ["y"])["y"], np.full((2, 2), 31))


@pytest.mark.parametrize("shape", [(2, 3), (1, 3), (2, "k")])
def test_a_fixed_batch_is_run_as_it_is(tmp_path: Path, shape: tuple[int | str, ...]) -> None:
    served = opened(toys.plus(tmp_path / "plus.onnx", 1, shape))
    assert (served.batched, served.max_batch) == (False, 1)
    rows = shape[0]
    assert isinstance(rows, int)
    feeds = {"x": np.zeros((rows, 3), np.float32)}
    assert served.rows(feeds) == 1
    np.testing.assert_array_equal(served.run(0, feeds, ["y"])["y"], np.ones((rows, 3)))
    assert f"has shape [{rows + 1}, 3]" in refused(served, x=np.zeros((rows + 1, 3), np.float32))


def test_a_model_without_any_axis(tmp_path: Path) -> None:
    served = opened(toys.scalar(tmp_path / "scalar.onnx"))
    feeds = {"x": np.array(2, np.float32)}
    assert served.rows(feeds) == 1
    assert served.run(0, feeds, ["y"])["y"] == -2


@pytest.mark.parametrize(("count", "size"), [(1, 2), (2, 2), (3, 4), (5, 5)])
def test_batches_are_padded_to_a_bucket_and_cut_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, size: int
) -> None:
    served = opened(toys.plus(tmp_path / "plus.onnx", 1))
    sizes = noted_sizes(monkeypatch)
    monkeypatch.setattr(Session, "buckets", (2, 4))
    x = np.arange(3 * count, dtype=np.float32).reshape(count, 3)
    np.testing.assert_array_equal(served.run(0, {"x": x}, ["y"])["y"], x + 1)
    assert sizes == [size]


def test_buckets_belong_to_gpus(tmp_path: Path) -> None:
    tuning = Tuning(buckets=(2, 4))
    session = Session(toys.plus(tmp_path / "plus.onnx", 1), 1, tuning=tuning)
    found = {}
    for provider in ("cpu", "cuda", "tensorrt"):
        session.provider = provider
        found[provider] = session.buckets
    assert found == {"cpu": (), "cuda": (2, 4), "tensorrt": (2, 4)}


def test_instances_share_the_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = toys.plus(tmp_path / "plus.onnx", 1)
    assert [one.threads for one in opened(file, Engine(threads=5, instances=2)).sessions] == [2, 2]
    assert [one.threads for one in opened(file, Engine(threads=1, instances=3)).sessions] == [1, 1, 1]


def test_class_names_that_cannot_be_read_are_found_at_once(tmp_path: Path) -> None:
    file = toys.scores(tmp_path / "scores.onnx", labels=["a"])
    file.write_bytes(file.read_bytes().replace(b'["a"]', b'["a",'))
    with pytest.raises(ConvertError, match="class names are not readable"):
        opened(file)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"not a model")
    with pytest.raises(ConvertError, match="cannot load it"):
        opened(file)


def test_external_data_stay_beside_the_model(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    (tmp_path / "secret").write_bytes(np.arange(3, dtype=np.float32).tobytes())
    weights = helper.make_tensor("c", TensorProto.FLOAT, [3], np.zeros(3, np.float32).tobytes(), raw=True)
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "../secret"), ("offset", "0"), ("length", "12")):
        weights.external_data.add(key=key, value=value)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in ("x", "y"))
    graph = helper.make_graph([helper.make_node("Add", ["x", "c"], ["y"])], "leak", [x], [y], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    file = tmp_path / "net" / "model.onnx"
    file.parent.mkdir()
    file.write_bytes(model.SerializeToString())
    with pytest.raises(ConvertError, match="cannot load it"):
        opened(file)


def test_where_the_file_is(bundle: Path, tmp_path: Path) -> None:
    assert model_file(bundle) == bundle / "model.onnx"
    assert model_file(bundle / "model.onnx") == bundle / "model.onnx"
    with pytest.raises(ConvertError, match=r"neither a folder with model\.onnx"):
        model_file(tmp_path)


def test_every_session_type_has_a_name_in_the_protocol() -> None:
    assert {np.dtype(kind) for kind in sessions._DTYPES.values()} == {np.dtype(kind) for kind in DATATYPES.values()}
