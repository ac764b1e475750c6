"""What the server's tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from senet_convert.converter.convert import Wishes, convert


@pytest.fixture(scope="session")
def image_bundle(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's bundle whose ONNX takes uint8 pictures."""
    folder = tmp_path_factory.mktemp("converted") / "digits-image"
    wishes = Wishes(resize=36, labels=digits / "classes.txt", check=False, input="image")
    convert(digits / "SE-ResNet-Digits.caffemodel", digits / "deploy.prototxt", folder, wishes, lambda _: None)
    return folder
