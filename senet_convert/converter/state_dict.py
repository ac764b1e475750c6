"""The weights of a PyTorch net as a file: written as safetensors, read from these or from what torch.save wrote."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray

from ..errors import Problems, ReadError, WeightsError
from ..files import require_file, write_in_pieces

Array = NDArray[Any]
State = Mapping[str, Array]

_ZIP = b"PK\x03\x04"  # how files of torch.save begin
_WRAPPERS = ("module.", "_orig_mod.")  # of torch's DataParallel, and of torch.compile
_COUNTER = "num_batches_tracked"  # torch's; Caffe has none
_NARROWER = (torch.float32, torch.float16, torch.bfloat16)  # every value of these is a float32

_STORED = {torch.int64: ("I64", "<i8"), torch.float32: ("F32", "<f4")}  # in the order of their tensors in a file
_ALIGNMENT = 8  # of the header, in bytes


def write_state(state: Mapping[str, torch.Tensor], path: Path) -> None:
    """A state_dict of float32 and int64 tensors, byte for byte as the safetensors library writes it.

    The library writes every tensor in one piece, see `files.write_in_pieces`. Shared tensors stand under each name.
    """
    order = sorted(state, key=lambda name: (list(_STORED).index(state[name].dtype), name))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name in order:
        kind, end = _STORED[state[name].dtype][0], at + state[name].nbytes
        header[name] = {"dtype": kind, "shape": list(state[name].shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            values = np.ascontiguousarray(state[name].detach().numpy(), _STORED[state[name].dtype][1])
            write_in_pieces(file, values.reshape(-1).view(np.uint8).data)


def read_state(path: Path) -> tuple[State, tuple[str, ...]]:
    """Name -> float32 array, and warnings. Narrower floats are widened exactly, float64 is rounded with a warning.

    Raises ReadError: neither safetensors nor a state_dict; WeightsError: weights that are not floating-point numbers.
    """
    require_file(path, ".safetensors")
    tensors = _without_wrappers(_tensors(path))
    problems, rounded = Problems(str(path)), []
    state: dict[str, Array] = {}
    for name, tensor in tensors.items():
        if name.endswith(_COUNTER):
            continue
        if not tensor.is_floating_point():
            problems.add(f"'{name}' is of type {str(tensor.dtype).removeprefix('torch.')}, not floating-point")
            continue
        if tensor.dtype not in _NARROWER:
            rounded.append(name)
        state[name] = np.asarray(tensor.detach().to(torch.float32).contiguous().numpy(), "<f4")
    problems.raise_as(WeightsError, "A caffemodel holds float32 values; quantised weights must be dequantised first.")
    warnings = (f"{path}: {len(rounded)} weights were rounded from float64 to float32",) if rounded else ()
    return state, warnings


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    with path.open("rb") as file:
        head = file.read(len(_ZIP))
    try:
        if head != _ZIP:
            return dict(safetensors.torch.load_file(path))
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except safetensors.SafetensorError as fault:
        raise ReadError(f"{path}: neither a safetensors file nor one that torch.save wrote: {fault}") from fault
    except (pickle.UnpicklingError, RuntimeError, ValueError) as fault:
        said = str(fault).splitlines()[0]
        raise ReadError(
            f"{path}: not a file of weights only: {said}. Save the state_dict: safetensors.torch.save_file"
            "(model.state_dict(), path), or torch.save(model.state_dict(), path)"
        ) from fault
    found = found.get("state_dict", found) if isinstance(found, dict) else found
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise ReadError(f"{path}: it does not hold a state_dict; save model.state_dict() instead of what is there")
    return {str(name): tensor for name, tensor in found.items()}


def _without_wrappers(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The names of the net itself, where a wrapper put its own before all of them."""
    for wrapper in _WRAPPERS:
        if tensors and all(name.startswith(wrapper) for name in tensors):
            tensors = {name.removeprefix(wrapper): tensor for name, tensor in tensors.items()}
    return tensors
