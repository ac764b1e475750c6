"""Networks that need no caffemodel: of layers without weights, and of upscalers whose filters are fixed.

A Deconvolution without bias whose `weight_filler` is bilinear is Caffe's way to write an upscaler: its weights are what
the filler says (BilinearFiller in filler.hpp).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ConvertError, listed
from ...proto import Blob, LayerDef, NetDef, read_prototxt
from ...proto.binary import holds_nothing
from ...proto.kinds import HEAD, is_text
from ...proto.netdef import Shape
from .build import build
from .cut import cut
from .draft import Options

FILLER = "bilinear"
PROTOTXT = ".prototxt"
_SOME = 3  # layers that a message names


def weightless(
    caffemodel: Path, prototxt: Path | None, options: Options, outputs: Sequence[str] = ()
) -> tuple[NetDef, NetDef] | None:
    """The weights and the definition of a network that comes as a prototxt alone, in the caffemodel's place, or with an
    empty caffemodel; None where the files are others, or the network needs weights. `outputs` are all that is asked of
    it, see `cut`. Raises ConvertError for a faulty network, and for a prototxt alone that cannot be read or needs
    weights.
    """
    if not caffemodel.is_file() or (prototxt is not None and not holds_nothing(caffemodel)):
        return None
    with caffemodel.open("rb") as file:
        if prototxt is None and not is_text(file.read(HEAD)):
            return None
    try:
        definition = read_prototxt(caffemodel if prototxt is None else prototxt)
    except ConvertError:
        if prototxt is None and caffemodel.suffix == PROTOTXT:
            raise
        return None  # reading the files as what they should be says more
    wanted = build(cut(definition, outputs, options)[0], None, options).wanted
    layers = {layer.name: layer for layer in definition.layers}
    trained = [want.name for want in wanted if len(want.shapes) != 1 or not _is_fixed(layers[want.name])]
    if trained and prototxt is None:
        some = listed([f"'{name}'" for name in trained[:_SOME]]) + (" and others" if len(trained) > _SOME else "")
        raise ConvertError(
            f"{caffemodel}: a network's definition alone, and its layers {some} have trained weights: "
            f"give the caffemodel, and this file with --prototxt"
        )
    if trained:
        return None
    filled = tuple(LayerDef(want.name, "", blobs=(_blob(want.shapes[0]),)) for want in wanted)
    return NetDef("", str(caffemodel), filled), definition


def notes(weights: NetDef) -> tuple[str, ...]:
    """What a person should know of the weights that `weightless` made."""
    names = [f"'{layer.name}'" for layer in weights.layers]
    said = f"fixed filters: layers {listed(names)} hold the weights of their {FILLER} weight_filler, as in Caffe"
    return (said,) if names else ()


def _is_fixed(layer: LayerDef) -> bool:
    filler = layer.params.get("convolution_param", {}).get("weight_filler", {})
    return layer.type == "Deconvolution" and filler.get("type") == FILLER


def _blob(shape: Shape) -> Blob:
    """Its last two axes alike, as the filler demands; in float32, as it computes."""
    kernel = shape[-1]
    half = -(-kernel // 2)
    centre = np.float32((kernel - 1) / (2.0 * half))
    along: NDArray[Any] = 1 - np.abs(np.arange(kernel, dtype=np.float32) / np.float32(half) - centre)
    values = np.broadcast_to(np.outer(along, along).astype("<f4"), shape)
    return Blob(shape, values.ravel())
