"""Reads what --reference names: blobs of a person's own Caffe, as `numpy.savez` writes them."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import CheckError, Problems, listed
from ...files import require_file
from ..graph.graph import Graph
from ..layers.base import times

Array = NDArray[Any]

HOW = "save the blobs with numpy.savez(FILE, **blobs)"
KINDS = "biuf"  # dtypes of real numbers: bool, signed, unsigned, float
_NPY, _ZIP = b"\x93NUMPY", b"PK"  # first bytes


def read_reference(path: Path, graph: Graph) -> dict[str, Array]:
    """Blobs of the network by name, float32, all inputs among them; other arrays of the file are not read.

    Raises CheckError with all that is wrong: inputs that are missing, do not fit or are not finite, or arrays that are
    damaged or not real numbers.
    """
    require_file(path, ".npz")
    problems = Problems(str(path))
    with _opened(path) as archive:
        members = {name.removesuffix(".npy"): name for name in archive.namelist() if name.endswith(".npy")}
        there = listed(sorted(members)) or "no arrays"
        for name in graph.inputs:
            if name not in members:
                problems.add(f"it lacks the input '{name}'; it has {there}")
            elif any(value.startswith(f"{name}@") for node in graph.nodes for value in node.outputs):
                problems.add(
                    f"the network overwrites its input '{name}' in place, so after a forward pass the blob no longer "
                    "holds what was fed in; check with --images instead"
                )
        if not problems and not members.keys() & graph.blobs.keys() - set(graph.inputs):
            problems.add(f"none of its arrays bears the name of a blob of the network: {there}")
        problems.raise_as(CheckError)
        known = [name for name in members if name in graph.blobs]
        found = {name: _array(archive, members[name], problems) for name in known}
    blobs = {name: array for name, array in found.items() if array is not None}
    for name in graph.inputs:
        fault = _misfit(graph, name, blobs[name]) if name in blobs else None
        if fault:
            problems.add(f"input '{name}' {fault}")
    problems.raise_as(CheckError)
    return blobs


def _opened(path: Path) -> zipfile.ZipFile:
    head = b""
    try:
        with path.open("rb") as file:
            head = file.read(len(_NPY))
        return zipfile.ZipFile(path)
    except OSError as fault:
        raise CheckError(f"{path}: cannot be read: {fault.strerror or fault}") from fault
    except Exception as fault:  # BadZipFile, and what zipfile does not foresee in damaged bytes
        kind = "not a file that numpy.savez wrote"
        if head == _NPY:
            kind = "a single array without a name, as numpy.save writes it"
        elif head.startswith(_ZIP):
            kind = f"the archive is damaged or cut off after {path.stat().st_size:,} bytes"
        raise CheckError(f"{path}: {kind}; {HOW}") from fault


def _array(archive: zipfile.ZipFile, member: str, problems: Problems) -> Array | None:
    """One array as float32; None, and a problem told, where it is none of real numbers."""
    name = member.removesuffix(".npy")
    try:
        with archive.open(member) as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
    except MemoryError:
        problems.add(f"array '{name}' is larger than the memory, or its header is damaged")
        return None
    except Exception:  # of zipfile, the decompressors and numpy, whose words advise to unpickle
        problems.add(f"array '{name}' is damaged, or holds Python objects; {HOW}, each a float32 array")
        return None
    if array.dtype.kind not in KINDS:
        problems.add(f"array '{name}' holds {array.dtype}, not real numbers")
        return None
    with np.errstate(over="ignore"):  # told as infinite, where it matters
        return np.asarray(array, np.float32)


def _misfit(graph: Graph, name: str, array: Array) -> str | None:
    """Why the check cannot run on this array as input `name`."""
    shape, free = array.shape, graph.batched[name]
    if len(shape) != len(free) or any(have != want for have, want in zip(shape, free, strict=True) if want is not None):
        return f"has shape {times(shape)}, the network takes {times(graph.shapes[name])}"
    if not array.size:
        return f"has shape {times(shape)}: it is empty, there is nothing to compare"
    lacking = array.size - np.count_nonzero(np.isfinite(array))
    if lacking:
        return f"holds {lacking:,} values of {array.size:,} that are NaN or infinite; what follows cannot be compared"
    return None
