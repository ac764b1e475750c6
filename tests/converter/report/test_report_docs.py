"""docs/report.md and real reports name the same keys, with the types that the reports have."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from senet_convert import bundle, demo
from senet_convert.converter import convert
from senet_convert.converter.graph.draft import Options
from senet_convert.converter.report import released
from senet_convert.deploy.runtime.session import Session
from tests.paths import DOCS

PAGE = DOCS / "report.md"
DROPOUT = 'layer { name: "drop" type: "Dropout" bottom: "prob" top: "prob" }\n'
NAMED_BY_DATA = {
    "network.inputs": "<blob>",
    "network.outputs": "<blob>",
    "check.worst": "<engine>",
    "check.top5": "<blob>",
    "layers[].errors[].engines": "<engine>",
    "layers[].errors[].local": "<engine>",
}
TYPES = {
    "integer": lambda value: type(value) is int,
    "number": lambda value: type(value) in (int, float),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "list": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
    "null": lambda value: value is None,
}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A report with something in every place: a recognised release, a reference, labels, a layer that is dropped."""
    folder = tmp_path_factory.mktemp("report")
    with demo.files() as digits, pytest.MonkeyPatch.context() as patch:
        caffemodel = digits / f"{demo.NAME}.caffemodel"
        prototxt = folder / "deploy.prototxt"
        prototxt.write_text((digits / "deploy.prototxt").read_text(encoding="utf-8") + DROPOUT, encoding="utf-8")
        _convert(caffemodel, prototxt, folder / "first", convert.Wishes(check=False))
        data = np.random.default_rng(0).normal(0, 60, (2, 3, 32, 32)).astype(np.float32)
        prob = Session(folder / "first" / bundle.ONNX).run({"data": data})["prob"]
        np.savez(folder / "reference.npz", data=data, prob=prob)
        release = released.releases()[0]
        identify = released.identify
        patch.setattr(released, "identify", lambda path, role: replace(identify(path, role), release=release))
        options = Options(input_shapes={"data": (1, 3, 32, 32)})
        wishes = convert.Wishes(options, reference=folder / "reference.npz", labels=digits / "classes.txt")
        _convert(caffemodel, prototxt, folder / "second", wishes)
        convert.convert_bundle(folder / "second", None, folder / "third", convert.Wishes(check=False), lambda _: None)
    again = bundle.read_report(folder / "third")
    tuned = {**again["tuned_from"], "sources": [], "release": None}  # whose keys are those of the report itself
    return {**bundle.read_report(folder / "second"), "tuned_from": tuned}


def _convert(caffemodel: Path, prototxt: Path, folder: Path, wishes: convert.Wishes) -> None:
    convert.convert(caffemodel, prototxt, folder, wishes, lambda _: None)


def documented() -> dict[str, str]:
    """Key -> type, from the tables of the page."""
    return dict(re.findall(r"^\| `([^`]+)` \| ([^|]+) \| .+ \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE))


def keys(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of a report in the notation of the page, with its value."""
    if isinstance(value, list):
        for item in value:
            if isinstance(item, dict):
                yield from keys(item, f"{place}[]")
    elif isinstance(value, dict):
        for key, inner in value.items():
            digest = place == "sources[]" and key not in ("role", "name", "bytes")
            name = "<digest>" if digest else NAMED_BY_DATA.get(place, str(key))
            path = f"{place}.{name}" if place else name
            yield path, inner
            yield from keys(inner, path)


def test_every_key_of_a_report_is_documented(report: dict[str, Any]) -> None:
    assert {key for key, _ in keys(report)} - set(documented()) == set()


def test_every_documented_key_is_in_a_report(report: dict[str, Any]) -> None:
    assert set(documented()) - {key for key, _ in keys(report)} == set()


def test_values_have_the_documented_types(report: dict[str, Any]) -> None:
    types = documented()
    wrong = [
        f"{key}: {value!r} is not: {types[key]}"
        for key, value in keys(report)
        if not any(TYPES[kind](value) for kind in types[key].split(" or "))
    ]
    assert wrong == []


def test_the_documented_version_is_the_current_one(report: dict[str, Any]) -> None:
    assert f"version {report['report_version']} of `report.json`" in PAGE.read_text(encoding="utf-8")


def test_the_reference_has_its_own_budget(report: dict[str, Any]) -> None:
    entries = [errors for layer in report["layers"] for errors in layer["errors"]]
    own = {errors["blob"]: errors["reference_budget"] for errors in entries if errors["reference_budget"] is not None}
    assert own == {"prob": report["check"]["budget"]["reference_floor"]}
