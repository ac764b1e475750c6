"""Triton's own HTTP client, with its default settings, against the server: every method that it has."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput, InferResult
from tritonclient.utils import InferenceServerException

from senet_convert.deploy.serve.models.model_paths import ModelPath
from senet_convert.deploy.serve.models.served import DATATYPES
from senet_convert.deploy.serve.settings.settings import Settings

from . import toys
from .live import Live, serving

ODD = "odd näme %&"


@pytest.fixture(scope="module")
def live(image_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    echo = toys.echo(tmp_path_factory.mktemp("toys") / "echo.onnx")
    root = toys.root(echo.with_name("root.onnx"))
    places = (
        ModelPath("digits", image_bundle),
        ModelPath(ODD, image_bundle),
        ModelPath("echo", echo),
        ModelPath("root", root),
    )
    with serving(Settings(models=places, max_body=4_000_000)) as running:
        yield running


@pytest.fixture
def client(live: Live) -> Iterator[Any]:
    client = InferenceServerClient(live.address)
    yield client
    client.close()


def picture(seed: int = 0, count: int = 1) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3)).astype(np.uint8)


def given(value: np.ndarray[Any, Any], name: str = "image", datatype: str = "UINT8", **more: Any) -> Any:
    found = InferInput(name, list(value.shape), datatype)
    found.set_data_from_numpy(value, **more)
    return found


def test_server_and_models(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.get_server_metadata()["name"] == "senet-convert"
    for name in ("digits", ODD):
        assert client.is_model_ready(name)
        assert client.is_model_ready(name, "1")
        assert not client.is_model_ready(name, "2")
        assert client.get_model_metadata(name)["inputs"][0]["shape"] == [-1, 32, 32, 3]
        assert client.get_model_metadata(name, "1")["name"] == name
        assert client.get_model_config(name)["max_batch_size"] == 16
        assert client.get_model_config(name, "1")["input"][0]["dims"] == [32, 32, 3]
    assert not client.is_model_ready("nothing")


def test_inference_in_every_form_gives_the_same(client: Any) -> None:
    value = picture()
    forms: list[dict[str, Any]] = [
        {},
        {"outputs": [InferRequestedOutput("prob")]},
        {"outputs": [InferRequestedOutput("prob", binary_data=False)]},
        {"model_version": "1"},
        {"request_compression_algorithm": "gzip"},
        {"request_compression_algorithm": "deflate", "response_compression_algorithm": "deflate"},
        {"response_compression_algorithm": "gzip"},
        {"priority": 1, "timeout": 20_000_000, "sequence_id": 5, "sequence_start": True, "parameters": {"own": "x"}},
    ]
    found = [client.infer("digits", [given(value)], **form).as_numpy("prob") for form in forms]
    found.append(client.infer(ODD, [given(value, binary_data=False)]).as_numpy("prob"))
    found.append(client.async_infer("digits", [given(value)]).get_result().as_numpy("prob"))
    for one in found:
        assert one.shape == (1, 10)
        assert np.abs(one - found[0]).max() < 1e-6
    assert found[0].sum() == pytest.approx(1)


def test_ids_and_versions_come_back(client: Any) -> None:
    result = client.infer("digits", [given(picture())], request_id="number 7")
    response = result.get_response()
    assert (response["id"], response["model_name"], response["model_version"]) == ("number 7", "digits", "1")
    assert result.get_output("prob")["datatype"] == "FP32"


@pytest.mark.parametrize("as_binary", [True, False])
def test_every_datatype(client: Any, as_binary: bool) -> None:
    values = {name: np.array([[1, 0, 1], [0, 1, 1]], kind) for name, kind in DATATYPES.items()}
    inputs = [given(value, f"in_{name}", name, binary_data=as_binary) for name, value in values.items()]
    outputs = [InferRequestedOutput(f"out_{name}", binary_data=as_binary) for name in values]
    for wanted in (outputs, None):
        result = client.infer("echo", inputs, outputs=wanted)
        for name, value in values.items():
            found = result.as_numpy(f"out_{name}")
            assert found.dtype == value.dtype
            assert np.array_equal(found, value)


@pytest.mark.parametrize("packing", [None, "gzip", "deflate"])
def test_large_tensors_in_either_form(client: Any, packing: str | None) -> None:
    value = np.random.default_rng(0).random((2, 50_000)).astype(np.float32)
    for as_binary in (True, False):
        result = client.infer(
            "root",
            [given(value, "x", "FP32", binary_data=as_binary)],
            outputs=[InferRequestedOutput("y", binary_data=as_binary)],
            request_compression_algorithm=packing,
            response_compression_algorithm=packing,
        )
        assert np.array_equal(result.as_numpy("y"), np.sqrt(value))


@pytest.mark.parametrize("as_binary", [True, False])
def test_the_best_classes(client: Any, as_binary: bool) -> None:
    value = picture(3, 2)
    outputs = [InferRequestedOutput("prob", binary_data=as_binary, class_count=2)]
    best = client.infer("digits", [given(value)], outputs=outputs).as_numpy("prob")
    values = client.infer("digits", [given(value)]).as_numpy("prob")
    assert best.shape == (2, 2)
    for row, entries in zip(values, best, strict=True):
        words = [entry.decode() if isinstance(entry, bytes) else entry for entry in entries]
        assert [int(word.split(":")[1]) for word in words] == list(np.argsort(-row)[:2])


def test_bodies_made_and_read_apart(client: Any) -> None:
    body, length = client.generate_request_body([given(picture())])
    assert length
    assert body[length:] == picture().tobytes()
    result = client.infer("digits", [given(picture())])
    head = b'{"outputs":[{"name":"prob","datatype":"FP32","shape":[1,10],"parameters":{"binary_data_size":40}}]}'
    raw = head + result.as_numpy("prob").tobytes()
    parsed = client.parse_response_body(raw, header_length=len(head))
    assert isinstance(parsed, InferResult)
    assert np.array_equal(parsed.as_numpy("prob"), result.as_numpy("prob"))


def test_statistics(client: Any) -> None:
    before = client.get_inference_statistics("digits", "1")["model_stats"][0]["inference_count"]
    client.infer("digits", [given(picture(count=3))])
    (one,) = client.get_inference_statistics("digits")["model_stats"]
    assert one["inference_count"] == before + 3
    assert {entry["name"] for entry in client.get_inference_statistics()["model_stats"]} >= {"digits", ODD, "echo"}


def test_models_are_loaded_and_unloaded(client: Any) -> None:
    def states() -> dict[str, str]:
        return {entry["name"]: entry["state"] for entry in client.get_model_repository_index()}

    assert states()[ODD] == "READY"
    client.unload_model(ODD)
    assert states()[ODD] == "UNAVAILABLE"
    assert not client.is_model_ready(ODD)
    with pytest.raises(InferenceServerException, match="not available: unloaded"):
        client.infer(ODD, [given(picture())])
    client.load_model(ODD)
    assert client.is_model_ready(ODD)
    for more in ({"config": "{}"}, {"config": "{}", "files": {"file:1/model.onnx": b"no"}}):
        with pytest.raises(InferenceServerException, match="parameters are not supported: config") as info:
            client.load_model(ODD, **more)
        assert info.value.status() == "400"
    for change in (client.load_model, client.unload_model):
        with pytest.raises(InferenceServerException, match="no model is called 'nothing'") as info:
            change("nothing")
        assert info.value.status() == "404"


def test_errors_say_what_is_wanted(client: Any) -> None:
    cases: list[tuple[str, list[Any], dict[str, Any], str, str]] = [
        ("nothing", [given(picture())], {}, "404", "no model is called 'nothing'; there is"),
        ("digits", [given(picture())], {"model_version": "9"}, "404", "has no version '9'; it has 1"),
        ("digits", [given(picture(), "img")], {}, "400", "has no input 'img'; it has 'image' UINT8 [-1, 32, 32, 3]"),
        ("digits", [given(picture()[:, :8])], {}, "400", "has shape [1, 8, 32, 3]; it takes 'image' UINT8"),
        ("digits", [given(picture().astype(np.float32), datatype="FP32")], {}, "400", "is FP32; it takes"),
        ("digits", [given(np.array([b"x"], object), datatype="BYTES")], {}, "400", "is BYTES; it takes 'image' UINT8"),
        ("digits", [given(picture(count=17))], {}, "400", "17 items in one request; it takes at most 16"),
        ("digits", [given(picture())] * 2, {}, "400", "stands more than once"),
        ("digits", [given(picture())], {"outputs": [InferRequestedOutput("y")]}, "400", "has no output 'y'; it has"),
        ("digits", [given(picture())], {"timeout": 1}, "504", "deadline"),
        ("root", [given(np.zeros((2, 1_000_000), np.float32), "x", "FP32")], {}, "413", "4000000"),
    ]  # fmt: skip
    for model, inputs, more, status, message in cases:
        with pytest.raises(InferenceServerException) as info:
            client.infer(model, inputs, **more)
        assert info.value.status() == status
        assert message in info.value.message()
    with pytest.raises(InferenceServerException, match="has no input 'img'"):
        client.async_infer("digits", [given(picture(), "img")]).get_result()
    for ask in (client.get_model_metadata, client.get_model_config, client.get_inference_statistics):
        with pytest.raises(InferenceServerException, match="no model is called 'nothing'"):
            ask("nothing")
    assert client.infer("digits", [given(picture())]).as_numpy("prob").shape == (1, 10)


def test_shared_memory_in_requests(client: Any) -> None:
    inputs = InferInput("image", [1, 32, 32, 3], "UINT8")
    inputs.set_shared_memory("region", 3072)
    with pytest.raises(InferenceServerException, match=r"shared memory .*is not supported"):
        client.infer("digits", [inputs])
    outputs = InferRequestedOutput("prob")
    outputs.set_shared_memory("region", 40)
    with pytest.raises(InferenceServerException, match=r"shared memory .*is not supported"):
        client.infer("digits", [given(picture())], outputs=[outputs])


def test_what_is_not_supported_says_so(client: Any) -> None:
    calls = [
        (client.get_trace_settings, ()),
        (client.get_trace_settings, ("digits",)),
        (client.update_trace_settings, ()),
        (client.update_trace_settings, ("digits", {"trace_rate": "1"})),
        (client.get_log_settings, ()),
        (client.update_log_settings, ({"log_info": True},)),
        (client.get_system_shared_memory_status, ()),
        (client.get_system_shared_memory_status, ("region",)),
        (client.register_system_shared_memory, ("region", "/key", 100)),
        (client.unregister_system_shared_memory, ()),
        (client.unregister_system_shared_memory, ("region",)),
        (client.get_cuda_shared_memory_status, ()),
        (client.get_cuda_shared_memory_status, ("region",)),
        (client.register_cuda_shared_memory, ("region", b"handle", 0, 100)),
        (client.unregister_cuda_shared_memory, ()),
        (client.unregister_cuda_shared_memory, ("region",)),
    ]
    for call, arguments in calls:
        with pytest.raises(InferenceServerException, match="not supported") as info:
            call(*arguments)
        assert info.value.status() == "400"


def test_no_method_was_left_out() -> None:
    there = {name for name, _ in inspect.getmembers(InferenceServerClient, inspect.isfunction) if name[0] != "_"}
    about_the_client = {"register_plugin", "unregister_plugin", "plugin"}
    called = set(re.findall(r"\bclient\.(\w+)", Path(__file__).read_text()))
    assert there - about_the_client <= called
