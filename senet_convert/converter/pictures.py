"""What a network that was loaded carries beside its weights: how pictures become its input, what its outputs are."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image as Pil
from PIL import ImageOps
from torch import Tensor, nn

from ..deploy.images.images import Image
from ..deploy.images.origins import Origins, described
from ..deploy.images.preprocess import Preprocess
from ..deploy.labels.classes import Classes
from ..errors import ConvertError
from .metadata.preprocessing import Resolved

AXES = 3  # of a picture in colour


class PicturePreprocess:
    """Callable: pictures -> the network's input, float32 (N, C, H, W), as `classify` and `validate` prepare them.

    A picture is a PIL image, or an array uint8 (H, W, 3), R G B, or (H, W), grey; several come as a list.
    """

    def __init__(self, preprocess: Preprocess, origins: Origins) -> None:
        self.preprocess = preprocess.outside()
        self.origins = origins

    def __call__(self, pictures: Any) -> Tensor:
        """Raises ConvertError for what is no picture."""
        several = pictures if isinstance(pictures, list | tuple) else [pictures]
        return torch.from_numpy(self.preprocess.batch([self._read(picture) for picture in several]))

    def __repr__(self) -> str:
        return f"PicturePreprocess({described(self.preprocess, self.origins)})"

    def _read(self, picture: Any) -> Image:
        """As read_image gives it: B G R, or grey with an axis."""
        if not isinstance(picture, Pil.Image):
            array = np.asarray(picture)
            if array.dtype != np.uint8 or array.ndim not in (AXES - 1, AXES) or array.shape[2:] not in ((), (1,), (3,)):
                raise ConvertError(
                    f"preprocess: a picture is a PIL image or an array uint8 (H, W, 3) or (H, W), not {array.dtype} "
                    f"{array.shape}"
                )
            picture = Pil.fromarray(array[:, :, 0] if array.shape[2:] == (1,) else array)
        upright = ImageOps.exif_transpose(picture).convert("RGB" if self.preprocess.channels == AXES else "L")
        pixels = np.asarray(upright, np.uint8)
        return pixels[:, :, ::-1] if pixels.ndim == AXES else pixels[:, :, None]


def equip(module: nn.Module, resolved: Resolved | None, classes: Classes) -> nn.Module:
    """The module with `preprocess` (None: the network takes no pictures) and `class_names` (empty: not known)."""
    carrier: Any = module  # nn.Module declares every attribute a tensor or a module
    carrier.preprocess = PicturePreprocess(resolved.preprocess, resolved.origins) if resolved else None
    carrier.class_names = list(classes.labels)
    return module
