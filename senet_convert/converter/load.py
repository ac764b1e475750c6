"""See senet_convert.load."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import nn

from ..errors import ConvertError
from ..proto import State
from .from_bundle import open_bundle
from .graph.draft import Options
from .metadata import preprocessing
from .metadata.class_names import class_names
from .network import prototxt_of, read, realise
from .pictures import equip
from .report.released import release_of

Shapes = Mapping[str | None, tuple[int, ...]]


def load(
    source: Path, prototxt: Path | None, shapes: Shapes, state: tuple[str, int, tuple[str, ...]]
) -> tuple[nn.Module, tuple[str, ...]]:
    """The module of a caffemodel or of a bundle, and warnings; `state` is phase, level and stages.

    Raises ConvertError.
    """
    options = Options(State(*state), shapes)
    if source.is_dir():
        if prototxt is not None or shapes:
            raise ConvertError(f"{source}: a bundle has its definition and its shapes; leave those away")
        opened = open_bundle(source)
        module = equip(opened.loaded.module, opened.resolved, opened.classes)
        return module, (*opened.loaded.graph.warnings, *opened.warnings)
    with prototxt_of(source, prototxt) as chosen:
        loaded = realise(*read(source, chosen, options))
    release = release_of(source)
    resolved = preprocessing.resolve(
        loaded.net, loaded.graph, release.name if release else None, {}, None, loaded.trained_with
    )
    module = equip(loaded.module, resolved, class_names(loaded.graph, release is not None, None))
    return module, loaded.graph.warnings
