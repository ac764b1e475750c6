"""docs/validate.md and real results name the same keys."""

from __future__ import annotations

import re
from typing import Any

import pytest

from senet_convert.deploy.images.imagesets import ImageSet
from senet_convert.deploy.model import Model
from senet_convert.deploy.validation.validate import Wishes, validate
from tests.paths import DOCS

PAGE = (DOCS / "validate.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def result(model: Model, images: ImageSet) -> dict[str, Any]:
    other = model.with_engine("torch", model.probabilities)
    return validate(model, images.limited(30), Wishes(expect_top1=3, always=True), others=[other]).plain()


def documented(section: str) -> set[str]:
    """The keys in the first column of a section's table."""
    text = PAGE.split(f"## {section}\n")[1].split("\n## ")[0]
    return {key for row in re.findall(r"^\| (`[^|]+`) \|", text, re.MULTILINE) for key in re.findall(r"`(\w+)`", row)}


def test_every_key_is_documented_and_there(result: dict[str, Any]) -> None:
    assert set(result) == documented("`validate --json`")


def test_the_diagnosis_too(result: dict[str, Any]) -> None:
    assert set(result["diagnosis"]) == documented("The diagnosis")


@pytest.mark.parametrize("key", ["engines", "agreement"])
def test_keys_of_engines(key: str, result: dict[str, Any]) -> None:
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{key}` | list"))
    assert set(result[key][0]) <= set(re.findall(r"`(\w+)`", row))
