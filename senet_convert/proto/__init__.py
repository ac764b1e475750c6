"""Caffe's file format: text prototxts and binary caffemodels and HDF5 snapshots in, plain frozen values out.

>>> net = read_prototxt(Path("deploy.prototxt"))
>>> weights = read_caffemodel(Path("SE-ResNet-50.caffemodel"))
"""

from pathlib import Path

from ..errors import each
from ..files import require_file
from . import kinds, netdef
from .binary import read_binary
from .hdf5 import is_hdf5, read_hdf5
from .netdef import Blob, LayerDef, NetDef, ParamSpec, Rule, State
from .text import read_text
from .tree import Fault, is_bvlc
from .upgrade import upgrade

__all__ = [
    "Blob",
    "Fault",
    "LayerDef",
    "NetDef",
    "ParamSpec",
    "Rule",
    "State",
    "is_bvlc",
    "is_text",
    "read_both",
    "read_caffemodel",
    "read_prototxt",
]

CAFFEMODEL, PROTOTXT = ".caffemodel", ".prototxt"


def is_text(path: Path) -> bool:
    """Whether a file is a text prototxt: by its content, not by its name. Raises ReadError where it is no file."""
    require_file(path, CAFFEMODEL, PROTOTXT)
    with path.open("rb") as file:
        return kinds.is_text(file.read(kinds.HEAD))


def read_both(caffemodel: Path, prototxt: Path | None) -> tuple[NetDef, NetDef | None]:
    """The networks in a caffemodel and, if there is one, in a prototxt. Raises ReadError with the faults of both."""
    if prototxt is None:
        return read_caffemodel(caffemodel), None
    weights, definition = each([lambda: read_caffemodel(caffemodel), lambda: read_prototxt(prototxt)])
    return weights, definition


def read_prototxt(path: Path) -> NetDef:
    """The network in a text prototxt. Raises ReadError with file, line and column."""
    require_file(path, PROTOTXT)
    tree, comments = read_text(path)
    return netdef.from_tree(upgrade(tree, str(path)), str(path), comments)


def read_caffemodel(path: Path) -> NetDef:
    """The network in a binary caffemodel, its blobs with it; of an HDF5 snapshot names and blobs. Raises ReadError."""
    require_file(path, CAFFEMODEL)
    tree = read_hdf5(path) if is_hdf5(path) else read_binary(path)
    return netdef.from_tree(upgrade(tree, str(path)), str(path))
