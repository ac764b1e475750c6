from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from senet_convert.proto import text
from senet_convert.proto.tree import Fault


def faults(folder: Path, source: str) -> list[Fault]:
    path = folder / "net.prototxt"
    path.write_text(source, encoding="utf-8")
    (layer,) = text.read_text(path)[0]["layer"]
    found: list[Fault] = layer.all_faults()
    return found


VALUES: dict[str, Any] = {
    "3": 3,
    "- 0x1F": -31,
    "017": 15,
    "1.5e2f": 150.0,
    "1.": 1.0,
    "-inf": float("-inf"),
    "inf": "inf",
    "true": True,
    "False": False,
    "MAX": "MAX",
    "'a' \"b\\n\"": "ab\n",
    "[1, 2.5, x]": [1, 2.5, "x"],
    "[]": [],
    "[{a: 1}, <>]": [{"a": 1}, {}],
    "{ a: 1, b { c: 'x'; c: 'y' } a: [2, 3] }": {"a": [1, 2, 3], "b": {"c": ["x", "y"]}},
    "< >": {},
    "{ a: }": None,  # what only looks like a value
    "{ 3: 4 }": None,
    "[1 2]": None,
    "'\\q'": None,
    "{ a: 08 }": {"a": 8.0},
}


@pytest.mark.parametrize(("value", "expected"), VALUES.items(), ids=VALUES)
def test_unknown_fields_keep_their_values(tmp_path: Path, value: str, expected: Any) -> None:
    (fault,) = faults(tmp_path, f"layer {{ new_param: {value} }}")
    assert fault.path == ("new_param",)
    assert fault.value == expected
    assert type(fault.value) is type(expected) or isinstance(fault.value, dict)


def test_paths_say_in_which_message_a_field_stands(tmp_path: Path) -> None:
    source = "layer { a: 1 convolution_param { weight_filler { b: 2 } c: 3 } param { d: 4 } param { d: 5 } }"
    found = {(".".join(fault.path), fault.value) for fault in faults(tmp_path, source)}
    assert found == {("a", 1), ("convolution_param.weight_filler.b", 2), ("convolution_param.c", 3)} | {
        ("param.d", 4),
        ("param.d", 5),
    }


def test_values_of_many_tokens_are_not_kept(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, "layer { new_param: [" + "1, " * 20_000 + "1] }")
    assert fault.value is None
