"""From a question to its answer."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from senet_convert.deploy.serve.errors import BAD, UNKNOWN, ServeError
from senet_convert.deploy.serve.http.statuses import status
from senet_convert.deploy.serve.models.inference import BYTES, Answer, Array, Question, Wanted, infer
from senet_convert.deploy.serve.models.model_paths import ModelPath
from senet_convert.deploy.serve.models.repository import Repository
from senet_convert.deploy.serve.models.served import Engine
from tests.deploy.serve import toys

LABELS = ["cat", "dog", "owl: barn", "crème"]


def answers(file: Path, *questions: Question) -> list[Answer | BaseException]:
    """All asked at once."""

    async def main() -> list[Answer | BaseException]:
        repository = Repository([ModelPath("toy", file)], engine=Engine(threads=1))
        await repository.start()
        found = await asyncio.gather(*(infer(repository, one) for one in questions), return_exceptions=True)
        await repository.close()
        return found

    return asyncio.run(main())


def answer(file: Path, question: Question) -> Answer:
    (found,) = answers(file, question)
    if isinstance(found, BaseException):
        raise found
    return found


def best(file: Path, x: Array, count: int) -> list[list[str]]:
    found = answer(file, Question("toy", {"x": x}, wanted=(Wanted("y", count),))).outputs[0]
    assert found.datatype == BYTES
    assert found.data.shape == (len(x), min(count, 4))
    return [[entry.decode() for entry in row] for row in found.data]


def test_all_outputs_by_default_and_those_asked_for_else(tmp_path: Path) -> None:
    file = toys.plus(tmp_path / "m.onnx", 1)
    x = np.zeros((2, 3), np.float32)
    found = answer(file, Question("toy", {"x": x}, id="seven"))
    assert (found.model, found.version, found.id) == ("toy", "1", "seven")
    assert [(one.name, one.datatype) for one in found.outputs] == [("y", "FP32")]
    np.testing.assert_array_equal(found.outputs[0].data, np.ones((2, 3)))
    twice = answer(file, Question("toy", {"x": x}, wanted=(Wanted("y"), Wanted("y", 2))))
    assert [one.datatype for one in twice.outputs] == ["FP32", BYTES]


def test_classification_gives_value_index_and_label_best_first(tmp_path: Path) -> None:
    x = np.array([[0.1, 0.7, 0.2, 0.0], [0.25, 0.25, 0.5, 0]], np.float32)
    named = toys.scores(tmp_path / "named.onnx", labels=LABELS)
    assert best(named, x, 2) == [["0.699999988:1:dog", "0.200000003:2:owl: barn"], ["0.5:2:owl: barn", "0.25:0:cat"]]
    assert best(named, x[:1], 9)[0][-1] == "0:3:crème"
    assert best(toys.scores(tmp_path / "bare.onnx"), x, 1) == [["0.699999988:1"], ["0.5:2"]]


@pytest.mark.parametrize(
    ("kind", "row"),
    [
        (TensorProto.UINT8, np.array([[0, 200, 3, 255]], np.uint8)),
        (TensorProto.INT8, np.array([[-128, 5, 0, 127]], np.int8)),
    ],
)
def test_classification_of_whole_numbers(tmp_path: Path, kind: int, row: Array) -> None:
    indices = [int(entry.split(":")[1]) for entry in best(toys.scores(tmp_path / "m.onnx", kind), row, 4)[0]]
    assert indices == list(np.argsort(-row[0].astype(int)))


def test_classification_needs_values_for_classes(tmp_path: Path) -> None:
    with pytest.raises(ServeError, match="has no value for each class"):
        answer(
            toys.scalar(tmp_path / "m.onnx"), Question("toy", {"x": np.array(1, np.float32)}, wanted=(Wanted("y", 1),))
        )
    with pytest.raises(ServeError, match="has no value for each class"):
        best(toys.scores(tmp_path / "b.onnx", TensorProto.BOOL), np.zeros((1, 4), np.bool_), 1)


def test_refusals(tmp_path: Path) -> None:
    x = np.zeros((1, 3), np.float32)
    questions = [
        Question("nix", {"x": x}),
        Question("toy", {"x": x}, version="2"),
        Question("toy", {"x": x}, wanted=(Wanted("z"),)),
        Question("toy", {"z": x}),
        Question("toy", {"x": x}),
    ]
    *faults, good = answers(toys.plus(tmp_path / "m.onnx", 1), *questions)
    assert [status(one) for one in faults if isinstance(one, ServeError)] == [UNKNOWN, UNKNOWN, BAD, BAD]
    assert isinstance(good, Answer)


def test_requests_asked_together_get_their_own_rows(tmp_path: Path) -> None:
    batches = [np.full((1 + number % 3, 3), number, np.float32) for number in range(30)]
    found = answers(toys.plus(tmp_path / "m.onnx", 1), *(Question("toy", {"x": x}) for x in batches))
    for x, one in zip(batches, found, strict=True):
        assert isinstance(one, Answer)
        np.testing.assert_array_equal(one.outputs[0].data, x + 1)


def test_models_whose_rows_are_no_items_are_run_alone(tmp_path: Path) -> None:
    batches: list[Array] = [np.array(row, np.float32) for row in ([1, -1], [2, 3], [-4, -5], [6, -6, 7])]
    found = answers(toys.positives(tmp_path / "m.onnx"), *(Question("toy", {"x": x}) for x in batches))
    for x, one in zip(batches, found, strict=True):
        assert isinstance(one, Answer)
        np.testing.assert_array_equal(one.outputs[0].data, x[x > 0])
