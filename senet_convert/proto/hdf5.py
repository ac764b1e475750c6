"""Reads Caffe's HDF5 snapshots: the blobs of a layer are the datasets data/<layer>/0, data/<layer>/1, and so on.

They hold no definitions of layers. A blob that several layers share stands with the first of them alone, so that among
those of the others its number is left out.

A '/' in a layer's name makes nested groups: Caffe (Net::ToHDF5) can write layer 'conv1/bn' only where a layer 'conv1'
stands before it, whose group then holds its blobs and the other layer. Layers are groups and blobs are datasets, so
such a file reads without doubt, although Caffe itself refuses it: it takes everything in a layer's group for blobs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import Problems, ReadError, listed
from .kinds import HDF5
from .tree import Tree, name_of

NUMBER = re.compile("0|[1-9][0-9]{0,8}")
INSTEAD = "Or let Caffe save the net as a binary caffemodel (snapshot_format: BINARYPROTO)"


def is_hdf5(path: Path) -> bool:
    """Whether a file begins as HDF5 files do."""
    with path.open("rb") as file:
        return file.read(len(HDF5)) == HDF5


def read_hdf5(path: Path) -> Tree:
    """A NetParameter whose layers have a name and blobs, nothing else; layers without blobs are left out.

    Raises ReadError: h5py is not installed, damaged, not a snapshot, or blobs that belong to no one layer.
    """
    try:
        import h5py
    except ImportError:
        raise ReadError(
            f"{path}: it is an HDF5 snapshot, which needs h5py: pip install 'senet-convert[hdf5]'. {INSTEAD}"
        ) from None
    try:
        with h5py.File(path, "r") as file:
            data = file.get("data")
            if not isinstance(data, h5py.Group):
                raise ReadError(
                    f"{path}: an HDF5 file, but not a snapshot of Caffe's weights: it has no group 'data'. "
                    "A solverstate and the files of HDF5Data layers have none"
                )
            net = _net(path, _datasets(data, h5py))
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as fault:
        raise ReadError(f"{path}: a damaged HDF5 file: {fault}. Copy or download it again") from None
    if not net["layer"]:
        raise ReadError(f"{path}: the HDF5 file holds no blobs")
    return net


def _datasets(data: Any, h5py: Any) -> dict[str, dict[str, Any]]:
    """Layer -> number -> dataset. Every object is visited once, and links to other files are not followed."""
    found: dict[str, dict[str, Any]] = {}

    def visit(path: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            layer, _, number = path.rpartition("/")
            found.setdefault(layer, {})[number] = item

    data.visititems(visit)
    return found


def _net(path: Path, found: Mapping[str, Mapping[str, Any]]) -> Tree:
    problems = Problems(f"{path} (HDF5)")
    size = path.stat().st_size
    net = Tree()
    net["layer"] = []
    for group, datasets in found.items():
        name = name_of(group.encode("utf-8", errors="surrogateescape"))
        fault = _unnumbered(name, datasets) or _odd(name, datasets, size)
        if fault:
            problems.add(fault)
            continue
        layer = Tree()
        layer["name"] = name
        layer["blobs"] = [_blob(datasets[str(number)], number) for number in sorted(map(int, datasets))]
        net["layer"].append(layer)
    problems.raise_as(ReadError, f"{INSTEAD}.")
    return net


def _unnumbered(name: str, datasets: Mapping[str, Any]) -> str | None:
    odd = sorted(number for number in datasets if not NUMBER.fullmatch(number))
    return f"layer '{name}' holds the blobs {listed(odd)}; Caffe numbers them 0, 1, 2 and so on" if odd else None


def _odd(name: str, datasets: Mapping[str, Any], size: int) -> str | None:
    """What no snapshot holds. Sizes are looked at before anything of that size is allocated."""
    for number, dataset in datasets.items():
        where = f"layer '{name}', blob {number}"
        if dataset.shape is None or dataset.dtype not in (np.dtype("<f4"), np.dtype("<f8")):
            return f"{where}: it is of type {dataset.dtype}, not float32 or float64"
        if dataset.nbytes > size:
            return f"{where}: it claims {dataset.nbytes} bytes, the file has {size}"
        if dataset.is_virtual or dataset.external:
            return f"{where}: its values lie in another file"
    return None


def _blob(dataset: Any, number: int) -> Tree:
    blob, shape = Tree(), Tree()
    shape["dim"] = [int(dim) for dim in dataset.shape]
    blob["shape"] = shape
    blob["number"] = number
    blob["data" if dataset.dtype.itemsize == 4 else "double_data"] = np.asarray(dataset[()]).reshape(-1)
    return blob
