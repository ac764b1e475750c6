"""One wrapper over onnxruntime: the session that the check tests is the session that serves."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper

from ..errors import ConvertError

Array = NDArray[Any]

PROVIDERS = {"cpu": "CPUExecutionProvider"}
_QUIET = 3  # onnxruntime's severity: errors only


class Session:
    """An ONNX model loaded for inference on the CPU.

    `inputs` and `outputs` are the names, in the model's order; `shapes` maps inputs to their shapes, where an axis that
    is free is a name or None.
    """

    def __init__(self, path: Path, threads: int | None = None, arena: bool = True) -> None:
        """Load `path`; `threads` defaults to the cores that this process may use. Raises ConvertError.

        `arena` keeps freed memory for the next run; without it a session leaves nothing behind.
        """
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or usable_cores()
        options.log_severity_level = _QUIET
        options.enable_cpu_mem_arena = arena
        try:
            self._session = ort.InferenceSession(str(path), options, providers=[PROVIDERS["cpu"]])
        except Exception as fault:  # onnxruntime raises classes of its own for each kind of fault, without a common base
            raise ConvertError(f"{path}: onnxruntime {ort.__version__} cannot load it: {fault}") from fault
        self.inputs = tuple(item.name for item in self._session.get_inputs())
        self.outputs = tuple(item.name for item in self._session.get_outputs())
        self.shapes: dict[str, list[int | str | None]] = {item.name: item.shape for item in self._session.get_inputs()}

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None) -> dict[str, Array]:
        """The wanted outputs (default: all), by name. Feeds are float32 arrays of the inputs' shapes."""
        names = list(self.outputs if outputs is None else outputs)
        return dict(zip(names, self._session.run(names, {name: feeds[name] for name in self.inputs}), strict=True))


def usable_cores() -> int:
    """How many cores the scheduler lets this process use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def newest_opset(limit: int) -> int:
    """The newest opset, at most `limit`, that the installed onnxruntime takes: found by loading a tiny model."""
    for opset in range(limit, 0, -1):
        imports = [helper.make_opsetid("", opset)]
        value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
        graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "probe", value[:1], value[1:])
        model = helper.make_model(graph, opset_imports=imports, ir_version=helper.find_min_ir_version_for(imports))
        options = ort.SessionOptions()
        options.log_severity_level = _QUIET + 1
        try:
            session = ort.InferenceSession(model.SerializeToString(), options, providers=[PROVIDERS["cpu"]])
        except Exception:  # noqa: S112 - not this opset: that is the question asked
            continue
        session.run(None, {"x": np.zeros(1, np.float32)})
        return opset
    raise ConvertError(f"onnxruntime {ort.__version__} takes no opset up to {limit}")
