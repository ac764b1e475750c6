"""Preprocessing as data: what an image goes through before the network sees it, carried in the ONNX metadata.

The arithmetic is that of Caffe's users: OpenCV reads B, G, R and resizes with INTER_LINEAR (no antialiasing); the mean
is subtracted, then the scale multiplied. Zero padding inside the network follows the subtraction.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import ConvertError

Image = NDArray[np.uint8]  # (H, W, C), B G R or grey


@dataclass(frozen=True)
class Preprocess:
    """How a picture becomes the network's input.

    size    (height, width) of the network's input: what is cropped from the centre
    resize  length of the shorter side before the crop, in pixels; None: resize to `size` without regard to the aspect
    mean    per channel (B, G, R) or one value, in 0..255; subtracted first
    scale   factor after the subtraction
    channels  3 (B, G, R) or 1 (grey)
    """

    size: tuple[int, int]
    resize: int | None = None
    mean: tuple[float, ...] = ()
    scale: float = 1.0
    channels: int = 3

    def to_json(self) -> str:
        """One line of JSON, as it stands in the metadata under 'preprocess'."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Preprocess:
        """The inverse of `to_json`."""
        data: Mapping[str, Any] = json.loads(text)
        return cls(**{**data, "size": tuple(data["size"]), "mean": tuple(data["mean"])})

    def batch(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """Images as read by `read_image` -> float32 (N, C, H, W)."""
        return np.stack([self._one(image) for image in images])

    def _one(self, image: Image) -> NDArray[np.float32]:
        height, width = self.size
        if self.resize is None:
            image = _resized(image, height, width)
        else:
            short = min(image.shape[:2])
            sides = (max(1, round(side * self.resize / short)) for side in image.shape[:2])
            image = _resized(image, *sides)
            top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
            if top < 0 or left < 0:
                raise ConvertError(f"a {height}x{width} crop does not fit: the shorter side is resized to {self.resize}")
            image = image[top : top + height, left : left + width]
        planes = image.astype(np.float32) - np.asarray(self.mean or (0.0,), np.float32)
        return np.ascontiguousarray(planes.transpose(2, 0, 1) * np.float32(self.scale))


def read_image(path: Path, channels: int = 3) -> Image:
    """A picture as OpenCV reads it: uint8 (H, W, channels), B G R. Raises ConvertError with the file's name."""
    flag = cv2.IMREAD_COLOR if channels == 3 else cv2.IMREAD_GRAYSCALE
    try:
        image = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), flag)
    except (OSError, cv2.error) as fault:
        raise ConvertError(f"{path}: cannot be read as an image: {fault}") from fault
    if image is None:
        raise ConvertError(f"{path}: not an image that OpenCV reads")
    return np.asarray(image, np.uint8).reshape(*image.shape[:2], channels)


def _resized(image: Image, height: int, width: int) -> Image:
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized, np.uint8).reshape(height, width, image.shape[2])
