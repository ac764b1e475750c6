"""One wrapper over onnxruntime: the session that the check tests is the session that serves."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper

from ...errors import ConvertError
from ...files import require_utf8
from . import providers
from .binding import Binding
from .cores import usable_cores
from .external_data import require_confined
from .providers import Tuning

Array = NDArray[Any]

BOUND = 16  # sets of buffers that are kept: one for each batch size, and for the outputs that clients ask for

_QUIET = 3  # onnxruntime's severity: errors only
_SILENT = 4
_DTYPES: dict[str, type[Any]] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}


class Run:
    """One run of a session that can be ended from another thread.

    onnxruntime looks between two nodes, inside of loops too, whether it is to end (RunOptions.terminate): a single long
    node is finished first.
    """

    def __init__(self) -> None:
        self.options = ort.RunOptions()
        self.options.log_severity_level = _SILENT  # a fault is raised, and the caller's to tell

    @property
    def ended(self) -> bool:
        """Whether it was told to end."""
        return bool(self.options.terminate)

    def end(self) -> None:
        """Let the run fail at its next node."""
        self.options.terminate = True


class Session:
    """An ONNX model loaded for inference.

    `inputs` and `outputs` are the names, in the model's order; `shapes` maps inputs to their shapes and `dtypes` to
    their types, `output_shapes` and `output_dtypes` the same of outputs, where an axis that is free is a name or None.
    `provider` is the one that is active, `metadata` what the file carries.
    """

    def __init__(
        self,
        path: Path,
        threads: int | None = None,
        arena: bool = True,
        provider: str = "cpu",
        tuning: Tuning | None = None,
        spin: bool = True,
        model: bytes | None = None,
    ) -> None:
        """Load `path`. Raises ConvertError: not loadable, or `provider` is not there or does not start.

        `model`, an ONNX file's bytes, is loaded in its place; weights that it has outside lie beside `path`.

        `threads` defaults to the cores that this process may use; `arena` keeps freed memory for the next run, without
        it a session leaves nothing behind; `spin` lets idle threads wait busily, which is faster on cores of its own
        and much slower on shared ones. `tuning` is for GPUs.
        """
        self.threads = threads or usable_cores()
        self.tuning = tuning or Tuning()
        options = ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.log_severity_level = _QUIET
        options.enable_cpu_mem_arena = arena
        if not spin:
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if model is not None:
            options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent))
        self._session, self.provider = _load(path, options, provider, self.tuning, model)
        self.inputs = tuple(item.name for item in self._session.get_inputs())
        self.outputs = tuple(item.name for item in self._session.get_outputs())
        self.shapes: dict[str, list[int | str | None]] = {item.name: item.shape for item in self._session.get_inputs()}
        self.output_shapes: dict[str, list[int | str | None]] = {
            item.name: item.shape for item in self._session.get_outputs()
        }
        self.dtypes = {item.name: _dtype(path, item) for item in self._session.get_inputs()}
        self.output_dtypes = {item.name: _dtype(path, item) for item in self._session.get_outputs()}
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        self._bindings: dict[tuple[Any, ...], Binding] = {}
        self._lock = threading.Lock()
        # Pictures of any size would leave buffers behind for each size.
        self._few_shapes = all(isinstance(dim, int) for dims in self.shapes.values() for dim in dims[1:])

    @property
    def buckets(self) -> tuple[int, ...]:
        """The batch sizes that this session prefers; empty where any is as good as another."""
        return self.tuning.buckets if self.provider in providers.GPU else ()

    def run(
        self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None, run: Run | None = None
    ) -> dict[str, Array]:
        """The wanted outputs (default: all), by name. Feeds are arrays of the inputs' shapes and types.

        With `run` it can be ended, which raises onnxruntime's own fault.
        """
        names = list(self.outputs if outputs is None else outputs)
        given = {name: feeds[name] for name in self.inputs}
        if self.provider in providers.GPU and self._few_shapes:
            return self.run_bound(given, names, "cuda", run)
        return dict(zip(names, self._session.run(names, given, run and run.options), strict=True))

    def run_bound(
        self, feeds: Mapping[str, Array], names: Sequence[str], device: str, run: Run | None = None
    ) -> dict[str, Array]:
        """As `run`, through buffers on `device` ('cpu' or 'cuda'); those of the last shapes and outputs are kept."""
        wanted = sorted(set(names))
        key = (device, *wanted, *((name, array.shape, array.dtype.str) for name, array in feeds.items()))
        with self._lock:  # the buffers are used by one run at a time
            binding = self._bindings.pop(key, None)
            if binding is None:
                while len(self._bindings) >= BOUND:
                    del self._bindings[next(iter(self._bindings))]
                binding = Binding(self._session, feeds, wanted, device, self.tuning.device)
            self._bindings[key] = binding  # the last one is the one used last
            found = binding.run(feeds, run and run.options)
        return {name: found[name] for name in names}

    def warm_up(self, batches: Sequence[int] = (), run: Run | None = None) -> None:
        """Run once for each batch size (default: the buckets, else 1), so that the first request does not wait.

        With TensorRT this builds the engines. A model with other free axes than the batch is left cold. With `run` it
        can be ended.
        """
        for batch in batches or self.buckets or (1,):
            shapes = {
                name: [dim if isinstance(dim, int) else batch if axis == 0 else None for axis, dim in enumerate(dims)]
                for name, dims in self.shapes.items()
            }
            if all(dim is not None for dims in shapes.values() for dim in dims):
                feeds = {name: np.zeros([dim or 0 for dim in dims], self.dtypes[name]) for name, dims in shapes.items()}
                self.run(feeds, run=run)


def _load(path: Path, options: Any, asked: str, tuning: Tuning, model: bytes | None) -> tuple[Any, str]:
    """The session and the provider that is active in it. 'auto' takes the first one that really starts."""
    require_utf8(path)
    require_confined(path, model, ort.__version__)
    names, source = providers.candidates(asked), str(path) if model is None else model
    for name in names:
        options.log_severity_level = _SILENT if asked == providers.AUTO and name != names[-1] else _QUIET
        try:
            shapes = _shapes(source, options) if name == "tensorrt" else {}
            chosen = providers.arguments(name, tuning, shapes, options.intra_op_num_threads)
            session = ort.InferenceSession(source, options, providers=chosen)
        except Exception as fault:  # onnxruntime raises a class for each kind of fault, without a common base
            if name != names[-1]:
                continue
            raise ConvertError(f"{path}: onnxruntime {ort.__version__} cannot load it: {fault}") from fault
        if name == names[-1] or session.get_providers()[0] == providers.PROVIDERS[name]:
            providers.refuse_fallback(name, session.get_providers())
            session.disable_fallback()  # a provider that fails later is an error too, not the CPU in its place
            return session, name
    raise ConvertError(f"the installed onnxruntime {ort.__version__} offers no provider for {asked}")


def _dtype(path: Path, item: Any) -> type[Any]:
    if item.type not in _DTYPES:
        raise ConvertError(f"{path}: '{item.name}' is a {item.type}; known are {', '.join(_DTYPES)}")
    return _DTYPES[item.type]


def _shapes(source: str | bytes, options: Any) -> dict[str, list[Any]]:
    """The inputs' shapes, from a session on the CPU."""
    session = ort.InferenceSession(source, options, providers=[providers.PROVIDERS["cpu"]])
    return {item.name: item.shape for item in session.get_inputs()}


@cache
def newest_opset(limit: int) -> int:
    """The newest opset, at most `limit`, that the installed onnxruntime takes: found by loading a tiny model."""
    for opset in range(limit, 0, -1):
        imports = [helper.make_opsetid("", opset)]
        value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
        graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "probe", value[:1], value[1:])
        model = helper.make_model(graph, opset_imports=imports, ir_version=helper.find_min_ir_version_for(imports))
        options = ort.SessionOptions()
        options.log_severity_level = _SILENT
        try:
            session = ort.InferenceSession(model.SerializeToString(), options, providers=[providers.PROVIDERS["cpu"]])
        except Exception:  # noqa: S112 - not this opset: that is the question asked
            continue
        session.run(None, {"x": np.zeros(1, np.float32)})
        return opset
    raise ConvertError(f"onnxruntime {ort.__version__} takes no opset up to {limit}")
