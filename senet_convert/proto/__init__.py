"""Caffe's file format: text prototxts and binary caffemodels and HDF5 snapshots in, plain frozen values out.

>>> net = read_prototxt(Path("deploy.prototxt"))
>>> weights = read_caffemodel(Path("SE-ResNet-50.caffemodel"))
"""

from pathlib import Path

from . import netdef
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
    "read_caffemodel",
    "read_prototxt",
]


def read_prototxt(path: Path) -> NetDef:
    """The network in a text prototxt. Raises ReadError with file, line and column."""
    tree, comments = read_text(path)
    return netdef.from_tree(upgrade(tree, str(path)), str(path), comments)


def read_caffemodel(path: Path) -> NetDef:
    """The network in a binary caffemodel, its blobs with it; of an HDF5 snapshot names and blobs. Raises ReadError."""
    tree = read_hdf5(path) if is_hdf5(path) else read_binary(path)
    return netdef.from_tree(upgrade(tree, str(path)), str(path))
