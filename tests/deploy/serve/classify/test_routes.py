"""Pictures over HTTP: the same answers as on the command line, faults of one picture and of a whole request."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from senet_convert.commands.classify import command
from senet_convert.converter.convert import Wishes, convert
from senet_convert.deploy.labels.classes import DEVKIT, Classes
from senet_convert.deploy.serve import pictures
from senet_convert.deploy.serve.models.model_paths import ModelPath
from senet_convert.deploy.serve.settings.settings import Settings
from senet_convert.deploy.serve.state import ServerState
from tests.deploy.conftest import paint, write_thousand
from tests.deploy.serve import toys
from tests.deploy.serve.asgi import encoded, talk

CLASSIFY, GATES, MODELS = "/v1/classify", "/v1/gates", "/v1/models"
PNG = {"Content-Type": "image/png"}


@pytest.fixture(scope="module")
def shown(digits: Path) -> list[Path]:
    return sorted((digits / "images").glob("*.png"))[:6]


def form(*files: Path | tuple[str, bytes]) -> list[tuple[str, Any]]:
    return [("image", (one.name, one.read_bytes()) if isinstance(one, Path) else one) for one in files]


@pytest.fixture
def ask(bundle: Path) -> Callable[..., httpx.Response]:
    """One request to a server of the digits; `settings` may say more."""

    def send(path: str, settings: dict[str, Any] | None = None, **request: Any) -> httpx.Response:
        found: list[httpx.Response] = []

        async def use(client: httpx.AsyncClient, _: ServerState) -> None:
            found.append(await client.post(path, **request))

        given: dict[str, Any] = {"models": (ModelPath("digits", bundle),), "provider": "cpu", "threads": 1}
        talk(Settings(**(given | (settings or {}))), use)
        return found[0]

    return send


def test_answers_are_those_of_the_command_line(
    ask: Callable[..., httpx.Response], bundle: Path, shown: list[Path]
) -> None:
    done = CliRunner().invoke(command, [str(bundle), *map(str, shown), "--json", "--top", "3", "--provider", "cpu"])
    expected = json.loads(done.stdout)
    answer = ask(CLASSIFY, files=form(*shown), data={"top": "3"}).json()
    assert (answer["model"], answer["version"], answer["class_order"]) == ("digits", "1", expected[0]["class_order"])
    assert [one["name"] for one in answer["images"]] == [path.name for path in shown]
    for found, wanted in zip(answer["images"], expected, strict=True):
        assert [{**entry, "probability": None} for entry in found["top"]] == [
            {**entry, "probability": None} for entry in wanted["top"]
        ]
        probabilities = [entry["probability"] for entry in wanted["top"]]
        assert [entry["probability"] for entry in found["top"]] == pytest.approx(probabilities, rel=1e-5, abs=1e-7)
    times = answer["milliseconds"]
    assert 0 < times["prepare"] < times["total"]
    assert 0 < times["infer"] < times["total"]


@pytest.mark.parametrize("headers", [PNG, {"Content-Type": "application/octet-stream"}, {}])
def test_a_picture_may_be_the_whole_body(
    headers: dict[str, str], ask: Callable[..., httpx.Response], shown: list[Path]
) -> None:
    answer = ask(f"{CLASSIFY}?top=1&model=digits&version=1", content=shown[0].read_bytes(), headers=headers)
    assert answer.status_code == 200
    ((best,),) = [image["top"] for image in answer.json()["images"]]
    assert (best["label"], best["index"]) == ("four", 8)


def test_a_broken_picture_leaves_the_others_alone(ask: Callable[..., httpx.Response], shown: list[Path]) -> None:
    answer = ask(
        CLASSIFY, files=form(shown[0], ("torn.png", encoded(9, 9)[:50]), ("big.png", encoded(99, 99)), shown[1])
    )
    assert answer.status_code == 200
    first, torn, big, last = answer.json()["images"]
    assert "error" not in first
    assert last["top"][0]["label"] == "zero"
    assert (torn["name"], torn["top"]) == ("torn.png", [])
    assert "broken" in torn["error"]
    assert "error" not in big
    small = ask(CLASSIFY, {"max_pixels": 9000}, files=form(shown[0], ("big.png", encoded(99, 99))))
    assert "99 x 99 pixels; this server takes 9,000 at most" in small.json()["images"][1]["error"]


@pytest.mark.parametrize(
    ("files", "status", "words"),
    [
        ([("notes.txt", b"hello")], 422, "no picture that can be read: it is none of JPEG"),
        ([("a", b"hello"), ("b", b"%PDF-1.4")], 422, "none of the 2 pictures could be classified: a: "),
        ([("a.png", encoded(99, 99))], 413, "99 x 99 pixels"),
        ([("a.png", encoded(99, 99)), ("b", b"")], 422, "b: the picture is empty"),
    ],
)
def test_without_any_answer_the_request_fails(
    files: list[tuple[str, bytes]], status: int, words: str, ask: Callable[..., httpx.Response]
) -> None:
    answer = ask(CLASSIFY, {"max_pixels": 9000}, files=form(*files))
    assert answer.status_code == status
    assert words in answer.json()["error"]


@pytest.mark.parametrize(
    ("query", "request_", "status", "words"),
    [
        ("", {"content": b"x", "headers": {"Content-Type": "text/plain"}}, 415, "'text/plain'; send a picture as"),
        ("", {"data": {"a": "b"}}, 415, "x-www-form-urlencoded"),
        ("", {"content": b"", "headers": PNG}, 422, "no bytes came"),
        ("", {"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 400, "Missing boundary"),
        (
            "",
            {"content": b"x", "headers": {"Content-Type": "multipart/form-data; boundary=b"}},
            400,
            "form cannot be read",
        ),
        ("", {"files": {"top": (None, b"3")}}, 422, "no file in the form"),
        ("", {"files": form(*[("a", b"")] * 65)}, 400, "Too many files"),
        (
            "?topp=3",
            {"content": encoded(9, 9), "headers": PNG},
            400,
            "unknown: topp; a request may say model, top, version",
        ),
        ("?top=0", {"content": encoded(9, 9), "headers": PNG}, 400, "'top' is '0'; it is a number of classes"),
        ("?top=-1", {"content": encoded(9, 9), "headers": PNG}, 400, "'top' is '-1'"),
        ("?model=letters", {"content": encoded(9, 9), "headers": PNG}, 404, "no model is called 'letters'"),
        ("?version=7", {"content": encoded(9, 9), "headers": PNG}, 404, "no version '7'"),
        ("", {"content": b"x", "headers": {**PNG, "Content-Encoding": "gzip"}}, 400, "not one whole gzip stream"),
    ],
)
def test_requests_that_are_wrong(
    query: str, request_: dict[str, Any], status: int, words: str, ask: Callable[..., httpx.Response]
) -> None:
    answer = ask(CLASSIFY + query, **request_)
    assert (answer.status_code, words in answer.json()["error"]) == (status, True), answer.json()


def test_more_classes_than_there_are(ask: Callable[..., httpx.Response], shown: list[Path]) -> None:
    answer = ask(f"{CLASSIFY}?top=1000", content=shown[0].read_bytes(), headers=PNG)
    (image,) = answer.json()["images"]
    assert len(image["top"]) == 10
    assert sum(entry["probability"] for entry in image["top"]) == pytest.approx(1, abs=1e-5)


def test_pictures_of_a_request_run_together(bundle: Path, shown: list[Path]) -> None:
    async def use(client: httpx.AsyncClient, state: ServerState) -> None:
        for _ in range(3):
            await client.post(CLASSIFY, files=form(*shown, *shown))
        stats = state.repository.get("digits").stats
        assert stats.inferences == 36
        assert max(stats.batches) > 1

    talk(Settings(models=(ModelPath("digits", bundle),), provider="cpu", threads=1, max_wait=0.05), use)


def test_a_model_that_is_replaced_meanwhile_fails_nothing(
    bundle: Path, image_bundle: Path, shown: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = tmp_path / "digits"
    link.symlink_to(bundle)
    prepared = pictures.Pictures.prepare
    left = [2]

    async def use(client: httpx.AsyncClient, state: ServerState) -> None:
        async def and_replace(*given: Any) -> Any:
            found = await prepared(*given)
            if left[0]:
                left[0] -= 1
                link.unlink()
                link.symlink_to(bundle if left[0] else image_bundle)  # the other one takes bytes, not floats
                await state.repository.load("digits")
            return found

        monkeypatch.setattr(pictures.Pictures, "prepare", and_replace)
        answer = await client.post(CLASSIFY, files=form(shown[0]))
        assert answer.status_code == 200, answer.json()
        assert answer.json()["images"][0]["top"][0]["label"] == "four"
        assert state.repository.get("digits").served.inputs[0].datatype == "UINT8"
        left[0] = 1000
        answer = await client.post(CLASSIFY, files=form(shown[0]))
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")

    talk(Settings(models=(ModelPath("digits", link),), provider="cpu", threads=1), use)


def test_the_deadline_holds_for_the_pictures_too(
    ask: Callable[..., httpx.Response], shown: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "prepare", lambda *_: time.sleep(0.5))
    answer = ask(CLASSIFY, {"deadline": 0.05}, files=form(shown[0]))
    assert (answer.status_code, answer.json()["error"]) == (504, "no answer within 0.05 s: the deadline has passed")


def test_a_batch_of_fixed_size_is_filled_up(tmp_path: Path) -> None:
    file = write_thousand(tmp_path / "model.onnx", Classes.ilsvrc2012(DEVKIT), batch=4)
    numbers = [999, 3, 500]

    async def use(client: httpx.AsyncClient, _: ServerState) -> None:
        painted = [paint(tmp_path / f"{number}.png", number) for number in numbers]
        answer = await client.post(CLASSIFY, files=form(*painted))
        assert [image["top"][0]["index"] for image in answer.json()["images"]] == numbers
        assert answer.json()["images"][1]["top"][0]["wnid"] == Classes.ilsvrc2012(DEVKIT).wnids[3]

    talk(Settings(models=(ModelPath("thousand", file),), provider="cpu", threads=1), use)


def test_a_model_that_resizes_pictures_itself(digits: Path, shown: list[Path], tmp_path: Path) -> None:
    wishes = Wishes(resize=36, labels=digits / "classes.txt", check=False, input="image", any_size=True)
    caffemodel = digits / "SE-ResNet-Digits.caffemodel"
    convert(caffemodel, digits / "deploy.prototxt", tmp_path / "any", wishes, lambda _: None)

    async def use(client: httpx.AsyncClient, _: ServerState) -> None:
        answer = await client.post(CLASSIFY, files=form(*shown[:2], ("wide.png", encoded(70, 45))))
        assert answer.status_code == 200, answer.json()
        labels = [image["top"][0]["label"] for image in answer.json()["images"]]
        assert labels[:2] == ["four", "zero"]
        gates = await client.post(GATES, files=form(shown[0]))
        assert gates.status_code == 200, gates.json()
        assert sum(len(stage["blocks"]) for stage in gates.json()["stages"]) == 5

    talk(Settings(models=(ModelPath("digits", tmp_path / "any"),), provider="cpu", threads=1), use)


def test_models_for_the_page(bundle: Path, tmp_path: Path) -> None:
    root = toys.root(tmp_path / "root.onnx")

    async def use(client: httpx.AsyncClient, _: ServerState) -> None:
        answer = (await client.get(MODELS)).json()
        assert (answer["ready"], answer["default"]) == (True, "digits")
        toy, digits = answer["models"]
        assert (toy["name"], toy["classifies"]) == ("root", False)
        assert "does not say how an image becomes its input" in toy["reason"]
        assert digits == {
            "name": "digits",
            "versions": ["1"],
            "classifies": True,
            "classes": 10,
            "class_order": "as the labels given",
            "size": [32, 32],
            "preprocessing": "pictures are cropped to 32x32 from a shorter side of 36; the mean 171, 86, 94 is "
            "subtracted; BGR; resized as by OpenCV (assumed: mean, scale, color, resample)",
            "assumed": ["mean", "scale", "color", "resample"],
            "gates": True,
        }
        refused = await client.post(f"{CLASSIFY}?model=root", content=encoded(9, 9), headers=PNG)
        assert (refused.status_code, "'root' does not classify pictures" in refused.json()["error"]) == (400, True)

    talk(Settings(models=(ModelPath("root", root), ModelPath("digits", bundle)), provider="cpu", threads=1), use)


def test_a_server_without_models() -> None:
    async def use(client: httpx.AsyncClient, _: ServerState) -> None:
        assert (await client.get(MODELS)).json() == {"ready": True, "default": None, "models": []}
        refused = await client.post(CLASSIFY, content=encoded(9, 9), headers=PNG)
        assert (refused.status_code, refused.json()["error"]) == (404, "no model is served")

    talk(Settings(), use)


def test_gates(ask: Callable[..., httpx.Response], shown: list[Path]) -> None:
    answer = ask(GATES, content=shown[0].read_bytes(), headers=PNG).json()
    assert (answer["model"], answer["version"], answer["closed_below"]) == ("digits", "1", 0.1)
    assert [[block["name"] for block in stage["blocks"]] for stage in answer["stages"]] == [
        ["conv2_1"],
        ["conv3_1", "conv3_2"],
        ["conv4_1", "conv4_2"],
    ]
    assert answer["milliseconds"]["total"] > 0


def test_gates_that_cannot_be_shown(ask: Callable[..., httpx.Response], shown: list[Path], tmp_path: Path) -> None:
    two = ask(GATES, files=form(*shown[:2]))
    assert (two.status_code, "one at a time" in two.json()["error"]) == (400, True)
    broken = ask(GATES, content=b"hello", headers=PNG)
    assert broken.status_code == 422
    off = ask(GATES, {"gates": False}, files=form(shown[0]))
    assert (off.status_code, "gates off" in off.json()["error"]) == (400, True)
    plain = (ModelPath("thousand", write_thousand(tmp_path / "model.onnx", Classes.ilsvrc2012(DEVKIT))),)
    none = ask(GATES, {"models": plain}, files=form(shown[0]))
    assert (none.status_code, "no squeeze-and-excitation blocks" in none.json()["error"]) == (400, True)
