"""Pictures themselves as the input of a model, over HTTP and gRPC."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.utils import InferenceServerException

from senet_convert.converter.convert import Wishes, convert
from senet_convert.deploy.images.images import read_image
from senet_convert.deploy.model import Model
from senet_convert.deploy.serve.models.model_paths import ModelPath
from senet_convert.deploy.serve.settings.settings import Settings
from senet_convert.deploy.serve.state import ServerState

from .. import toys
from ..asgi import encoded, talk
from .grpc.live import Live

INFER = "/v2/models/digits/infer"


@pytest.fixture(scope="module")
def files(digits: Path) -> list[Path]:
    return sorted((digits / "images").glob("*.png"))[:3]


@pytest.fixture(scope="module")
def expected(files: list[Path], bundle: Path) -> np.ndarray[Any, Any]:
    """What the model says of the pictures, prepared here."""
    model = Model.open(bundle, threads=1)
    return model.probabilities(model.preprocess.batch([read_image(file) for file in files]))


Ask = Callable[..., tuple[int, Any]]


@pytest.fixture
def ask(bundle: Path, tmp_path: Path) -> Ask:
    """Sends one request: (status, answer)."""

    def send(body: Any, url: str = INFER, headers: dict[str, str] | None = None, **options: Any) -> tuple[int, Any]:
        found: list[httpx.Response] = []
        models = (ModelPath("digits", bundle), ModelPath("plus", toys.plus(tmp_path / "plus.onnx", 1)))

        async def use(client: httpx.AsyncClient, _: ServerState) -> None:
            content = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
            method = "GET" if body is None else "POST"
            found.append(await client.request(method, url, content=content, headers=headers))

        talk(Settings(models=models, provider="cpu", threads=1, **options), use)
        return found[0].status_code, found[0].json()

    return send


def request(data: Any, shape: list[int], name: str = "data", **more: Any) -> dict[str, Any]:
    return {"inputs": [{"name": name, "datatype": "BYTES", "shape": shape, "data": data, **more}]}


def in_base64(files: list[Path]) -> list[str]:
    return [base64.b64encode(file.read_bytes()).decode() for file in files]


def binary(pieces: list[bytes], shape: list[int]) -> tuple[bytes, dict[str, str]]:
    raw = b"".join(struct.pack("<I", len(piece)) + piece for piece in pieces)
    entry = {"name": "data", "datatype": "BYTES", "shape": shape, "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [entry]}).encode()
    return head + raw, {"Inference-Header-Content-Length": str(len(head))}


def values(answer: Any) -> np.ndarray[Any, Any]:
    (output,) = answer["outputs"]
    return np.array(output["data"], np.float32).reshape(output["shape"])


@pytest.mark.parametrize("nested", [False, True])
def test_base64_in_json(nested: bool, ask: Ask, files: list[Path], expected: Any) -> None:
    data = in_base64(files)
    status, answer = ask(request([[one] for one in data], [3, 1]) if nested else request(data, [3]))
    assert status == 200, answer
    np.testing.assert_allclose(values(answer), expected, atol=1e-6)


def test_bytes_behind_the_json(ask: Ask, files: list[Path], expected: Any) -> None:
    body, headers = binary([file.read_bytes() for file in files], [3])
    status, answer = ask(body, headers=headers)
    assert status == 200, answer
    np.testing.assert_allclose(values(answer), expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["raw", "contents"])
def test_grpc(kind: str, live: Live, files: list[Path], expected: Any) -> None:
    pieces = [file.read_bytes() for file in files]
    if kind == "raw":
        tensor = triton_grpc.InferInput("data", [3, 1], "BYTES")
        tensor.set_data_from_numpy(np.array(pieces, object).reshape(3, 1))
        with triton_grpc.InferenceServerClient(live.address) as client:
            found = client.infer("digits", [tensor]).as_numpy("prob")
            wrong = triton_grpc.InferInput("data", [1], "BYTES")
            wrong.set_data_from_numpy(np.array([b"no picture"], object))
            with pytest.raises(
                InferenceServerException, match="picture 0 cannot be read: this is no picture"
            ) as caught:
                client.infer("digits", [wrong])
            assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
    else:
        message = pb.ModelInferRequest(model_name="digits")
        message.inputs.add(name="data", datatype="BYTES", shape=[3]).contents.bytes_contents.extend(pieces)
        with live.stub() as stub:
            answer = stub.ModelInfer(message, timeout=20)
        found = np.frombuffer(answer.raw_output_contents[0], np.float32).reshape(3, -1)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.fixture(scope="module")
def live(bundle: Path) -> Iterator[Live]:
    with Live(Settings(models=(ModelPath("digits", bundle),), threads=1)) as server:
        yield server


def test_metadata_tell_of_it(ask: Ask, live: Live) -> None:
    _, answer = ask(None, "/v2/models/digits")
    told = answer["parameters"]
    assert told["encoded_pictures"] == "data"
    assert json.loads(told["preprocess"])["mean"] == [171, 86, 94]
    assert told["preprocess_assumed"] == "mean,scale,color,resample"
    assert "parameters" not in ask(None, "/v2/models/plus")[1]
    config = ask(None, "/v2/models/digits/config")[1]
    assert {key: value["string_value"] for key, value in config["parameters"].items()} == told
    with live.stub() as stub:
        message = stub.ModelConfig(pb.ModelConfigRequest(name="digits"), timeout=20).config
    assert {key: value.string_value for key, value in message.parameters.items()} == told


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (request(["?"], [1]), "not in base64"),
        (request([7], [1]), "pictures in base64"),
        (
            request(["aGVsbG8="], [1]),
            "input 'data' is BYTES; it takes 'data' FP32 [-1, 3, 32, 32], or encoded pictures, and picture 0 cannot",
        ),
        (request([""], [1]), "picture 0 cannot be read: the picture is empty"),
        (request(["aGVsbG8="], [2]), "shape [2] takes 2 pictures; there are 1"),
        (request(["aGVsbG8="] * 17, [17]), "has 17 pictures; it takes 1 to 16"),
        (request([], [0]), "has 0 pictures"),
        (request(["aGVsbG8="], [1, 2]), "encoded pictures have [N] or [N, 1]"),
        (request(["aGVsbG8="], []), "encoded pictures have [N] or [N, 1]"),
        (request(["aGVsbG8="], [1], name="other"), "has no input 'other'"),
        (request(["aGVsbG8="], [1], parameters={"shared_memory_region": "x"}), "shared memory"),
    ],
)
def test_what_is_wrong_is_told(body: Any, said: str, ask: Ask) -> None:
    status, answer = ask(body)
    assert status == 400
    assert said in answer["error"]


def test_other_models_take_none(ask: Ask) -> None:
    status, answer = ask(request(["aGVsbG8="], [1], name="x"), "/v2/models/plus/infer")
    assert status == 400
    assert "is BYTES; it takes" in answer["error"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda raw: raw[:-1], "bytes are left"),
        (lambda raw: raw + b"x", "bytes follow the last tensor"),
    ],
)
def test_bytes_that_do_not_fit(change: Callable[[bytes], bytes], said: str, ask: Ask, files: list[Path]) -> None:
    body, headers = binary([files[0].read_bytes()], [1])
    status, answer = ask(change(body), headers=headers)
    assert (status, said in answer["error"]) == (400, True), answer


@pytest.mark.parametrize(
    ("count", "said"), [(1, "bytes follow the last of 1 pictures"), (3, "2 of 3 pictures are whole")]
)
def test_lengths_that_do_not_fit(count: int, said: str, ask: Ask, files: list[Path]) -> None:
    body, headers = binary([file.read_bytes() for file in files[:2]], [count])
    status, answer = ask(body, headers=headers)
    assert (status, said in answer["error"]) == (400, True), answer
    body, headers = binary([], [1])
    assert "0 of 1 pictures are whole" in ask(body, headers=headers)[1]["error"]


def test_limits_are_those_of_classification(ask: Ask) -> None:
    data = [base64.b64encode(encoded(100, 100)).decode()]
    status, answer = ask(request(data, [1]), max_pixels=9_999)
    assert status == 413
    assert "input 'data', picture 0: the picture has 100 x 100 pixels" in answer["error"]


def test_a_model_that_takes_whole_pictures(digits: Path, files: list[Path], tmp_path: Path, expected: Any) -> None:
    wishes = Wishes(resize=36, labels=digits / "classes.txt", check=False, input="image", any_size=True)
    caffemodel = digits / "SE-ResNet-Digits.caffemodel"
    convert(caffemodel, digits / "deploy.prototxt", tmp_path / "any", wishes, lambda _: None)

    async def use(client: httpx.AsyncClient, state: ServerState) -> None:
        name = state.repository.get("digits").served.inputs[0].name
        data = in_base64(files)
        answer = await client.post(INFER, json=request(data[:1], [1], name))
        assert answer.status_code == 200, answer.json()
        assert int(values(answer.json()).argmax()) == int(expected[0].argmax())
        answer = await client.post(INFER, json=request(data, [3], name))
        assert (answer.status_code, "it takes" in answer.json()["error"]) == (400, True), answer.json()

    talk(Settings(models=(ModelPath("digits", tmp_path / "any"),), provider="cpu", threads=1), use)
