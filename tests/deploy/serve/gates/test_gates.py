"""The gates of a picture, against those that Caffe computed."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from senet_convert.deploy.model import Model
from senet_convert.deploy.serve.errors import AWAY, BAD, BUSY, RequestError
from senet_convert.deploy.serve.gates.excitation import Block
from senet_convert.deploy.serve.gates.gates import Gates, described
from senet_convert.deploy.serve.models.served import Array, Engine, Served
from senet_convert.deploy.serve.pictures import classifier_of, prepare
from senet_convert.deploy.serve.pools import Pool

CPU = Engine("cpu", threads=1, max_batch=4)
Use = Callable[[Gates], Awaitable[None]]


@pytest.fixture(scope="module")
def served(bundle: Path) -> Served:
    return Served.open("digits", "1", bundle / "model.onnx", CPU)


def feeds(served: Served, file: Path) -> dict[str, Array]:
    return {served.inputs[0].name: prepare(file.read_bytes(), classifier_of(served), 10**6)[None]}


def use(what: Use, enabled: bool = True) -> None:
    async def go() -> None:
        await what(Gates(Pool("gates", 1, 4), enabled, threads=1))

    asyncio.run(go())


def test_gates_are_those_that_caffe_computed(served: Served, digits: Path) -> None:
    reference = np.load(digits / "reference.npz")

    async def ask(gates: Gates) -> None:
        given = feeds(served, digits / "images" / "digits_val_00000001.png")
        output, stages = await gates.of(served, given)
        blocks = [block for stage in stages for block in stage["blocks"]]
        assert [len(stage["blocks"]) for stage in stages] == [1, 2, 2]
        assert [stage["size"] for stage in stages] == [[8, 8], [4, 4], [2, 2]]
        for block in blocks:
            expected = reference[f"blob/{block['name']}_1x1_up"].ravel()
            np.testing.assert_allclose(block["gates"], expected, atol=2e-6)
            assert block["mean"] == pytest.approx(expected.mean(), abs=2e-6)
            assert (block["min"], block["max"]) == pytest.approx((expected.min(), expected.max()), abs=2e-6)
            assert block["channels"] == len(expected)
        name = classifier_of(served).output
        np.testing.assert_allclose(output, served.run(0, given, [name])[name], atol=2e-6)

    use(ask)


def test_stages_follow_the_size_and_else_the_channels() -> None:
    sizes = [(8, 8), (8, 8), (4, 4), None, None, None]
    counts = [2, 3, 3, 3, 3, 5]
    blocks = [Block(f"b{i}", f"g{i}", count, size) for i, (count, size) in enumerate(zip(counts, sizes, strict=True))]
    values = [np.linspace(0, 1, count, dtype=np.float32) for count in counts]
    stages = described(blocks, values)
    assert [[block["name"] for block in stage["blocks"]] for stage in stages] == [
        ["b0", "b1"],
        ["b2"],
        ["b3", "b4"],
        ["b5"],
    ]
    assert [stage["name"] for stage in stages] == ["stage 1", "stage 2", "stage 3", "stage 4"]
    assert stages[3]["blocks"][0]["closed"] == pytest.approx(0.2)


def test_a_model_without_blocks_says_so(thousand: Model) -> None:
    plain = Served.open("thousand", "1", thousand.path, CPU)

    async def ask(gates: Gates) -> None:
        assert not await gates.available(plain)
        with pytest.raises(RequestError, match="'thousand' has no squeeze-and-excitation blocks") as caught:
            await gates.check(plain)
        assert caught.value.status == BAD

    use(ask)


def test_gates_can_be_switched_off(served: Served) -> None:
    async def ask(gates: Gates) -> None:
        assert not await gates.available(served)
        with pytest.raises(RequestError, match="gates off"):
            await gates.check(served)

    use(ask, enabled=False)


def test_a_replaced_file_gives_no_gates_of_another_network(bundle: Path, digits: Path, tmp_path: Path) -> None:
    shutil.copy(bundle / "model.onnx", tmp_path)
    old = Served.open("digits", "1", tmp_path / "model.onnx", CPU)
    changed = onnx.load(str(tmp_path / "model.onnx"))
    changed.graph.doc_string = "another"
    onnx.save(changed, str(tmp_path / "model.onnx"))

    async def ask(gates: Gates) -> None:
        given = feeds(old, digits / "images" / "digits_val_00000001.png")
        with pytest.raises(RequestError, match="has been replaced") as caught:
            await gates.of(old, given)
        assert (caught.value.status, caught.value.retry_after) == (AWAY, 2)
        new = Served.open("digits", "1", tmp_path / "model.onnx", CPU)
        assert len((await gates.of(new, given))[1]) == 3

    use(ask)


def test_weights_may_lie_beside_the_file(bundle: Path, digits: Path, tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    whole = onnx.load(str(bundle / "model.onnx"))
    onnx.save(whole, str(file), save_as_external_data=True, location="model.onnx.data", size_threshold=1000)
    split = Served.open("digits", "1", file, CPU)

    async def ask(gates: Gates) -> None:
        output, stages = await gates.of(split, feeds(split, digits / "images" / "digits_val_00000001.png"))
        assert (int(output.argmax()), len(stages)) == (8, 3)

    use(ask)


def test_few_sessions_are_kept_and_none_of_models_that_are_gone(bundle: Path, digits: Path) -> None:
    models = [Served.open(str(i), "1", bundle / "model.onnx", CPU) for i in range(4)]
    given = feeds(models[0], digits / "images" / "digits_val_00000001.png")

    async def ask(gates: Gates) -> None:
        for model in models:
            await gates.of(model, given)
        assert [model.name for model in gates._loaded] == ["2", "3"]
        await gates.of(models[2], given)
        assert [model.name for model in gates._loaded] == ["3", "2"]
        models.clear()
        del model
        await asyncio.sleep(0)
        assert len(gates._loaded) == len(gates._blocks) == 0

    use(ask)


def test_a_crowd_is_refused_and_one_is_served_at_a_time() -> None:
    async def ask(gates: Gates) -> None:
        inside, most = 0, 0

        async def one() -> None:
            nonlocal inside, most
            async with gates.turn():
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0.01)
                inside -= 1

        results = await asyncio.gather(*(one() for _ in range(8)), return_exceptions=True)
        refused = [result for result in results if isinstance(result, RequestError)]
        assert [fault.status for fault in refused] == [BUSY] * 3
        assert most == 1
        await one()

    use(ask)
