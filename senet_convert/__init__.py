"""Takes Caffe networks out of Caffe and into production, and proves that nothing changed on the way.

>>> from senet_convert import load
>>> model = load("SE-ResNet-50.caffemodel")  # a torch module with the weights, in evaluation mode
>>> logits = model(x)  # float32 (N, 3, 224, 224): B, G, R, the mean subtracted
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from . import extras
from .errors import ConvertError
from .version import __version__

if TYPE_CHECKING:
    from torch import nn

__all__ = ["ConvertError", "__version__", "load"]

# onnxruntime's builds report to their maker by default, and keep an id of the machine; it reads this when it is loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def load(
    caffemodel: str | PathLike[str],
    prototxt: str | PathLike[str] | None = None,
    *,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    phase: str = "TEST",
    stages: Sequence[str] = (),
    level: int = 0,
) -> nn.Module:
    """The network of a caffemodel, or of a bundle, as a torch module with its weights, float32, in evaluation mode.

    SE-ResNet, SE-ResNeXt, SENet and SE-BN-Inception become readable modules that give logits (N, classes); any other
    network becomes a generic module that gives the network's outputs. Without `prototxt`, the one beside the caffemodel
    is used (same stem, or deploy.prototxt), or else the definition in the caffemodel itself, which is also meant where
    `prototxt` is the caffemodel.

    The module has `preprocess`, which makes its input of PIL pictures or arrays (None where it takes no pictures), and
    `class_names` (empty where they are not known).

    `input_shapes` gives shapes of inputs that the files leave open, by name; `phase`, `stages` and `level` choose among
    the layers of a training net, as Caffe does.

    What is strange but no error, such as weights that are NaN or of no use, is told by `warnings.warn`. Raises
    ConvertError: the files cannot be read, or do not fit each other; ImportError where torch is not installed.
    """
    if phase not in ("TEST", "TRAIN"):
        raise ConvertError(f"phase '{phase}': a network is built for TEST or for TRAIN")
    try:
        from .converter.load import load as load_network
    except ModuleNotFoundError as lacking:
        raise ImportError(f"senet_convert.load: {extras.lacking(lacking.name)}", name=lacking.name) from lacking

    shapes: dict[str | None, tuple[int, ...]] = {name: tuple(shape) for name, shape in (input_shapes or {}).items()}
    given = Path(prototxt) if prototxt is not None else None
    module, told = load_network(Path(caffemodel), given, shapes, (phase, level, tuple(stages)))
    for warning in told:
        warnings.warn(warning, stacklevel=2)
    return module
