"""A network cut at the blobs that a person asks for: layers of unknown types behind them need not be known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...errors import listed
from ...proto import NetDef
from ..layers.registry import merged
from .draft import Options
from .fields import kind_of, python_class
from .inputs import DATA
from .layer_types import IDENTITIES
from .passes import LOSSES, SINKS


def cut(net: NetDef, outputs: Sequence[str], options: Options) -> tuple[NetDef, tuple[str, ...]]:
    """The network without the layers of unknown types that no output needs, and without what reads these; and what a
    person should know of it. Without outputs it is as it was.
    """
    if not outputs:
        return net, ()
    reserved = {*IDENTITIES, *DATA, *LOSSES, *SINKS}
    types = {name for layer in net.layers for name in (layer.type, python_class(layer)) if name}
    kinds = merged(types, options.layers, reserved)
    needed: set[int] = set()
    wanted = set(outputs)
    for place in reversed(range(len(net.layers))):
        layer = net.layers[place]
        if wanted.intersection(layer.tops):
            needed.add(place)
            wanted.update(layer.bottoms)
    gone: set[str] = set()  # blobs of layers that are left out
    kept, left = [], []
    for place, layer in enumerate(net.layers):
        brings = layer.type == "Python" and not layer.bottoms  # data
        unknown = layer.type and not (layer.type in reserved or kind_of(layer, kinds) or brings)
        if place not in needed and (unknown or gone.intersection(layer.bottoms)):
            gone.update(set(layer.tops) - set(layer.bottoms))
            left.append(f"'{layer.name}' ({layer.type})")
        else:
            kept.append(layer)
    if not left:
        return net, ()
    note = f"left out, because their types are not known and --outputs needs nothing of them: layers {listed(left)}"
    return replace(net, layers=tuple(kept)), (note,)
