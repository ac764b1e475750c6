"""What tests of several rooms share: the embedded demo, and the bundle that it converts to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from senet_convert import demo
from senet_convert.converter.convert import Wishes, convert


@pytest.fixture(scope="session")
def digits() -> Iterator[Path]:
    """The folder of the embedded demo."""
    with demo.files() as folder:
        yield folder


@pytest.fixture(scope="session")
def bundle(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("converted") / "digits"
    wishes = Wishes(resize=36, labels=digits / "classes.txt", check=False)
    convert(digits / "SE-ResNet-Digits.caffemodel", digits / "deploy.prototxt", folder, wishes, lambda _: None)
    return folder


@pytest.fixture(scope="session")
def image_bundle(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's bundle whose ONNX takes uint8 pictures."""
    folder = tmp_path_factory.mktemp("converted") / "digits-image"
    wishes = Wishes(resize=36, labels=digits / "classes.txt", check=False, input="image")
    convert(digits / "SE-ResNet-Digits.caffemodel", digits / "deploy.prototxt", folder, wishes, lambda _: None)
    return folder
