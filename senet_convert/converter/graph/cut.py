"""A network cut at the blobs that a person asks for: layers of unknown types behind them need not be known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...errors import listed
from ...proto import LayerDef, NetDef
from ..layers import Layer
from ..layers.registry import merged
from .draft import Options
from .fields import kind_of, python_class
from .inputs import DATA
from .layer_types import IDENTITIES, misfit
from .passes import LOSSES, SINKS


def cut(net: NetDef, outputs: Sequence[str], options: Options) -> tuple[NetDef, tuple[str, ...]]:
    """The network without the layers that no output needs and whose types are unknown, or another fork's of that name,
    and without what reads these; and what a person should know of it. Without outputs it is as it was.
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
        known = layer.type in reserved or brings or _fits(layer, kind_of(layer, kinds))
        if place not in needed and (not known or gone.intersection(layer.bottoms)):
            gone.update(set(layer.tops) - set(layer.bottoms))
            left.append(f"'{layer.name}' ({layer.type or 'of no type that its form has'})")
        else:
            kept.append(layer)
    if not left:
        return net, ()
    note = f"left out, because their types are not known and --outputs needs nothing of them: layers {listed(left)}"
    return replace(net, layers=tuple(kept)), (note,)


def _fits(layer: LayerDef, kind: type[Layer] | None) -> bool:
    """Whether the layer may be one of that type, as far as its type and its numbers of bottoms and tops say."""
    return kind is not None and not (kind.namesakes and misfit(layer, kind, layer.type))
