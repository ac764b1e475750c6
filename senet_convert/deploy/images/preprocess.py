"""Preprocessing as data: what an image goes through before the network sees it, carried in the ONNX metadata.

The arithmetic is that of Caffe's users: OpenCV reads B, G, R and resizes with INTER_LINEAR (no antialiasing); the mean
is subtracted, then the scale multiplied. Zero padding inside the network follows the subtraction.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ...errors import ConvertError
from .images import Image, read_image

__all__ = ["COLORS", "RESAMPLES", "Image", "Preprocess", "read_image"]

RESAMPLES = ("opencv", "pil")
COLORS = ("bgr", "rgb")
BLOB, IMAGE = "blob", "image"
INPUTS = (BLOB, IMAGE)
LARGEST = float(np.finfo(np.float32).max)
SQUASH = 0  # asked for as `resize`: to the input's size, without regard to the aspect
MOST_PIXELS = 1 << 27  # of a picture before the crop: 400 MB; lines of a pixel's width would take all memory


@dataclass(frozen=True)
class Preprocess:
    """How a picture becomes the network's input. Raises ConvertError for values that fit no picture.

    size    (height, width) of the network's input: what is cropped from the centre
    resize  length of the shorter side before the crop, in pixels; None: resize to `size` without regard to the aspect
    mean    per channel in the network's order, or one value, in 0..255; subtracted first
    scale   factor after the subtraction
    channels  3 (colour) or 1 (grey)
    resample  'opencv': INTER_LINEAR, without antialiasing; 'pil': Pillow's bilinear filter, with it
    color   order of the network's channels, 'bgr' as with Caffe's own tools, or 'rgb'
    input   'blob': the file takes what the network takes; 'image': it takes uint8 (H, W, C), R G B or grey, and holds
            the change of order, mean and scale itself
    any_size  with 'image': the file takes one picture of any size at a time, and resizes and crops it itself
    ten_crop  a picture becomes ten inputs: the corners and the centre, then these mirrored (as Caffe's oversample)
    """

    size: tuple[int, int]
    resize: int | None = None
    mean: tuple[float, ...] = ()
    scale: float = 1.0
    channels: int = 3
    resample: str = "opencv"
    color: str = "bgr"
    input: str = BLOB
    any_size: bool = False
    ten_crop: bool = False

    def __post_init__(self) -> None:
        if len(self.mean) not in (0, 1, self.channels):
            raise ConvertError(f"preprocessing: a mean of {len(self.mean)} values for {self.channels} channels")
        for name, value in [*(("mean", value) for value in self.mean), ("scale", self.scale)]:
            if not abs(value) <= LARGEST:  # nor is NaN
                raise ConvertError(f"preprocessing: the {name} {value} is no finite float32")
        if self.resize is not None and self.resize < min(self.size):
            crop = f"{self.size[0]}x{self.size[1]}"
            raise ConvertError(
                f"preprocessing: no {crop} crop fits into pictures whose shorter side is resized to {self.resize}"
            )
        if self.any_size and (self.input != IMAGE or self.resample != "opencv"):
            raise ConvertError("preprocessing: only a file that takes pictures can resize them, and as OpenCV does")
        if self.any_size and self.ten_crop:
            raise ConvertError(
                "ten crops: the model takes whole pictures and crops their centre itself; convert it without "
                "--input-size any"
            )
        if self.ten_crop and (self.resize is None or self.size == (self.resize, self.resize)):
            raise ConvertError(
                "ten crops: the model does not crop, it resizes pictures to its input's size; convert it with "
                "--resize, larger than that"
            )

    def to_json(self) -> str:
        """One line of JSON, as it stands in the metadata under 'preprocess'; there `ten_crop` is never asked for."""
        return json.dumps({key: value for key, value in asdict(self).items() if key != "ten_crop" or value})

    @classmethod
    def from_json(cls, text: str) -> Preprocess:
        """The inverse of `to_json`. Raises ConvertError for anything else, or what a later version wrote."""
        try:
            data: Mapping[str, Any] = json.loads(text)
            unknown = sorted(set(data) - {field.name for field in fields(cls)})
            if unknown:
                raise ConvertError(
                    f"the model's preprocessing asks for {', '.join(unknown)}, unknown to this version: install a newer"
                )
            found = cls(**{**data, "size": tuple(data["size"]), "mean": tuple(data.get("mean", ()))})
        except (ValueError, TypeError, KeyError, AttributeError) as fault:
            raise ConvertError(f"the model's preprocessing is not readable: {fault!r}") from fault
        if found.resample not in RESAMPLES or found.color not in COLORS or found.input not in INPUTS:
            raise ConvertError(f"the model's preprocessing is unknown to this version: {text}")
        return found

    def blank(self, count: int) -> NDArray[Any]:
        """Zeros of the shape and type that `count` pictures have as the file's input."""
        if self.input == IMAGE:
            pictures = np.zeros((count, *self.size, self.channels), np.uint8)
            return self.stack(list(pictures)) if self.any_size else pictures
        return np.zeros((count, self.channels, *self.size), np.float32)

    def batch(self, images: Sequence[Image]) -> NDArray[Any]:
        """Images as read by `read_image` -> what the file takes: float32 (N, C, H, W), or uint8 (N, H, W, C).

        With `ten_crop` there is an axis of ten behind N; with `any_size` it is what `stack` says.
        """
        return self.stack([self.apply(image) for image in images])

    def stack(self, inputs: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """What `apply` gave for several images, as one array, N its first axis.

        With `any_size` pictures differ in shape: it is an array (N,) of objects, each uint8 (H, W, C).
        """
        if not self.any_size:
            return np.stack(inputs) if inputs else self.blank(0)
        found = np.empty(len(inputs), object)
        for i, picture in enumerate(inputs):
            found[i] = picture
        return found

    def apply(self, image: Image) -> NDArray[Any]:
        """One image as read by `read_image`, uint8 (H, W, C) -> what the file takes. Raises ConvertError."""
        if self.any_size:
            return np.ascontiguousarray(image[:, :, ::-1])
        pixels = self._crops(image)[:, :, :, ::-1]
        found = np.ascontiguousarray(pixels) if self.input == IMAGE else self.planes(pixels)
        return found if self.ten_crop else found[0]

    def planes(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Pictures of the right size, uint8 (N, H, W, C), R G B or grey -> the network's float32 (N, C, H, W)."""
        ordered = pixels[:, :, :, ::-1] if self.color == "bgr" else pixels
        values = ordered.astype(np.float32) - np.asarray(self.mean or (0.0,), np.float32)
        return np.ascontiguousarray(values.transpose(0, 3, 1, 2) * np.float32(self.scale))

    def overruled(self, asked: Mapping[str, Any]) -> Preprocess:
        """With what the user asks for: mean, scale, color, resize (SQUASH for none), resample, crop; None is not asked.

        Raises ConvertError for a crop of another size than the input's, and for what the file itself does.
        """
        given = {name: value for name, value in asked.items() if value is not None}
        crop = given.pop("crop", None)
        if crop is not None and self.size != (crop, crop):
            takes = "x".join(map(str, self.size))
            raise ConvertError(
                f"--crop {crop}: the network takes {takes}, so that is what is cropped; leave --crop out, or convert "
                f"it with --size {crop}, for a network that works at that size"
            )
        inside = {"mean", "scale", "color"} if self.input == IMAGE else set()
        inside |= {"resize", "resample"} if self.any_size else set()
        held = [f"--{name}" for name in given if name in inside]
        if held:
            raise ConvertError(f"{', '.join(held)}: the model does that itself; convert it again with that")
        if given.get("resize") == SQUASH:
            given["resize"] = None
        return replace(self, **given)

    def outside(self) -> Preprocess:
        """The same arithmetic, no part of it in the file: how the network itself is fed."""
        return replace(self, input=BLOB, any_size=False)

    def _crops(self, image: Image) -> Image:
        """The part of a picture that the network sees, or all ten: uint8 (crops, height, width, C)."""
        height, width = self.size
        if self.resize is None:
            return self._resized(image, height, width)[None]
        short = min(image.shape[:2])
        tall, wide = (max(1, round(side * self.resize / short)) for side in image.shape[:2])
        if tall * wide > MOST_PIXELS:
            raise ConvertError(
                f"a picture of {image.shape[0]}x{image.shape[1]} would grow to {tall}x{wide}: the shorter side is "
                f"resized to {self.resize}"
            )
        image = self._resized(image, tall, wide)
        bottom, right = image.shape[0] - height, image.shape[1] - width
        if bottom < 0 or right < 0:
            raise ConvertError(f"a {height}x{width} crop does not fit: the shorter side is resized to {self.resize}")
        centre = (bottom // 2, right // 2)
        places = [(0, 0), (0, right), (bottom, 0), (bottom, right), centre] if self.ten_crop else [centre]
        crops = [image[None, top : top + height, left : left + width] for top, left in places]
        return np.concatenate([*crops, *(crop[:, :, ::-1] for crop in crops)]) if self.ten_crop else crops[0]

    def _resized(self, image: Image, height: int, width: int) -> Image:
        if self.resample == "pil":
            from PIL import Image as Pil

            flat = image[:, :, 0] if image.shape[2] == 1 else image
            resized = np.asarray(Pil.fromarray(flat).resize((width, height), Pil.Resampling.BILINEAR))
        else:
            resized = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR))
        return resized.astype(np.uint8, copy=False).reshape(height, width, image.shape[2])
