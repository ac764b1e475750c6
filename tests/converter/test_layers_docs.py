"""docs/layers.md lists the layer types as they are."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest

from senet_convert.converter.graph.fields import WITHOUT_EFFECT, WITHOUT_EFFECT_AS
from senet_convert.converter.layers import LAYERS
from senet_convert.proto import caffe_pb2
from tests.paths import DOCS

PAGE = (DOCS / "layers.md").read_text(encoding="utf-8")
ROWS = {cells[0]: cells for cells in (re.split(r" *(?<!\\)\| *", line.strip("|\n ")) for line in PAGE.splitlines())}


def test_every_type_is_listed_and_nothing_else() -> None:
    listed = [name for name in ROWS if re.fullmatch(r"[A-Z]\w+", name) and len(ROWS[name]) == 4]
    assert sorted(listed) == sorted(LAYERS)


def test_types_of_forks_stand_apart() -> None:
    first, second = PAGE.split("## Of forks")
    noted = {name for name, kind in LAYERS.items() if kind.note}
    assert all(f"\n| {name} |" in second for name in noted)
    assert "\n| Convolution |" in first


@pytest.mark.parametrize("name", LAYERS)
def test_message_and_parameters_of_a_type(name: str) -> None:
    kind = LAYERS[name]
    _, message, parameters, _ = ROWS[name]
    assert message.strip("`") == kind.message
    known: set[str] = set()
    if kind.message:
        described = caffe_pb2.LayerParameter.DESCRIPTOR.fields_by_name[kind.message].message_type
        assert described is not None
        known = {field.name for field in described.fields}
    wanted = [field.name for field in fields(kind) if field.name in known]
    assert re.findall(r"`(\w+)`", parameters) == wanted


def test_fields_without_effect_are_listed() -> None:
    wanted = [*WITHOUT_EFFECT, *(f"{name}: {str(value).lower()}" for name, value in WITHOUT_EFFECT_AS.items())]
    table = PAGE.split("## Fields of forks that change nothing")[1]
    assert re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE) == wanted
