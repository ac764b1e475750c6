"""What passes between the passes: a network on its way from a definition to a graph, and what the user says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from ...proto import LayerDef, NetDef, State
from ...proto.netdef import Shape

if TYPE_CHECKING:
    from ..layers.base import Layer


@dataclass(frozen=True)
class Options:
    """What a person says about the network: its state, and the shapes of inputs that the files leave open.

    The key None of `input_shapes` is a shape given without a name: for every input that lacks one. `layers` are layer
    types of the person's own, beside ours and those of installed packages. `ignore_fields` names fields of the
    definition to pass over, for which the person takes the responsibility.
    """

    state: State = State()
    input_shapes: Mapping[str | None, Shape] = field(default_factory=lambda: MappingProxyType({}))
    layers: Mapping[str, type[Layer]] = field(default_factory=lambda: MappingProxyType({}))
    ignore_fields: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dropped:
    """A layer or blob of the file that inference does not run, and why."""

    name: str
    type: str
    reason: str


@dataclass(frozen=True)
class Input:
    """One input of the network. `shape` is None where neither file nor person gives it, or after a problem."""

    blob: str
    shape: Shape | None
    by: str  # who brings it: "layer 'data' (HDF5Data)", or the header


@dataclass(frozen=True)
class Draft:
    """A network between two passes."""

    net: NetDef
    options: Options
    layers: tuple[LayerDef, ...]
    excluded: tuple[LayerDef, ...] = ()
    inputs: tuple[Input, ...] = ()
    dropped: tuple[Dropped, ...] = ()
