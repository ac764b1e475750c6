"""Execution providers of onnxruntime by short names, and whether the one that was asked for is really there.

onnxruntime falls back to the CPU with a mere warning, even for a misspelt name: here that is an error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import ConvertError

AUTO = "auto"
PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
}
PACKAGES = {  # the extra that brings a provider, and the package behind it; all share one module directory
    "cpu": ("cpu", "onnxruntime"),
    "cuda": ("gpu", "onnxruntime-gpu"),
    "tensorrt": ("gpu", "onnxruntime-gpu"),
    "openvino": ("openvino", "onnxruntime-openvino"),
}
NEEDS = {
    "cuda": "an NVIDIA driver, CUDA and cuDNN of the versions that onnxruntime-gpu was built for",
    "tensorrt": "an NVIDIA driver, CUDA, cuDNN and the TensorRT libraries",
    "openvino": "the OpenVINO libraries of its package",
    "cpu": "nothing",
}
AUTO_ORDER = ("cuda", "openvino", "cpu")  # TensorRT builds engines for minutes: only when asked for by name
GPU = ("cuda", "tensorrt")
BUCKETS = (1, 2, 4, 8, 16, 32)  # batch sizes that a GPU is given: each new size costs it memory planning, or an engine


@dataclass(frozen=True)
class Tuning:
    """What a GPU may be told.

    buckets  batch sizes that batches are padded to
    cache    folder for TensorRT's engines and timings: without it every start builds them anew
    fp16     let TensorRT compute in half precision; results then differ by about 1e-3
    device   number of the GPU
    """

    buckets: tuple[int, ...] = BUCKETS
    cache: Path | None = None
    fp16: bool = False
    device: int = 0


def offered() -> tuple[str, ...]:
    """Short names of the providers that the installed onnxruntime was built with."""
    import onnxruntime as ort

    built = ort.get_available_providers()
    return tuple(short for short, name in PROVIDERS.items() if name in built)


def candidates(asked: str) -> tuple[str, ...]:
    """The providers to try, in order. Raises ConvertError for one that is unknown or not offered."""
    if asked == AUTO:
        return tuple(short for short in AUTO_ORDER if short in offered())
    if asked not in PROVIDERS:
        raise ConvertError(f"there is no provider '{asked}'; choose one of {', '.join([AUTO, *PROVIDERS])}")
    if asked not in offered():
        import onnxruntime as ort

        extra, package = PACKAGES[asked]
        raise ConvertError(
            f"the provider '{asked}' is not in the installed onnxruntime {ort.__version__}, which offers "
            f"{', '.join(offered())}. The package {package} brings it, in place of the installed one (they share one "
            f"folder): pip uninstall that, then pip install 'senet-convert[{extra}]'"
        )
    return (asked,)


def refuse_fallback(asked: str, active: Sequence[str]) -> None:
    """Raise ConvertError unless a session's active providers begin with the one that was asked for."""
    if not active or active[0] != PROVIDERS[asked]:
        import onnxruntime as ort

        short = {name: short for short, name in PROVIDERS.items()}
        really = ", ".join(short.get(name, name) for name in active) or "nothing"
        raise ConvertError(
            f"the provider '{asked}' did not start: onnxruntime {ort.__version__} would run on {really} instead. It "
            f"offers {', '.join(offered())}; '{asked}' needs {NEEDS[asked]}"
        )


def arguments(
    provider: str, tuning: Tuning, shapes: Mapping[str, Sequence[Any]], threads: int
) -> list[tuple[str, dict[str, str]]]:
    """What onnxruntime takes as `providers`: the one meant, and where it may hand nodes on, those behind it.

    `shapes` are the model's inputs, for TensorRT's profile of batch sizes.
    """
    cuda = {"device_id": str(tuning.device), "use_tf32": "0"}  # TF32 keeps 10 bits of a product's 23
    options: dict[str, list[tuple[str, dict[str, str]]]] = {
        "cpu": [],
        "cuda": [("cuda", {**cuda, "cudnn_conv_algo_search": "HEURISTIC"})],
        "tensorrt": [("tensorrt", _tensorrt(tuning, shapes)), ("cuda", cuda)],
        "openvino": [("openvino", _openvino(threads))],
    }
    return [(PROVIDERS[short], chosen) for short, chosen in [*options[provider], ("cpu", {})]]


def _openvino(threads: int) -> dict[str, str]:
    """float32 throughout: its own choice would be bfloat16 where the CPU has it."""
    config = {"CPU": {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}}
    return {"device_type": "CPU", "load_config": json.dumps(config)}


def _tensorrt(tuning: Tuning, shapes: Mapping[str, Sequence[Any]]) -> dict[str, str]:
    options = {"device_id": str(tuning.device), "trt_fp16_enable": str(tuning.fp16)}
    if tuning.cache is not None:
        tuning.cache.mkdir(parents=True, exist_ok=True)
        folder = str(tuning.cache)
        options |= {
            "trt_engine_cache_enable": "True",
            "trt_engine_cache_path": folder,
            "trt_timing_cache_enable": "True",
            "trt_timing_cache_path": folder,
        }
    free = {name: dims for name, dims in shapes.items() if dims and not isinstance(dims[0], int)}
    fixed = all(isinstance(dim, int) for dims in free.values() for dim in dims[1:])
    if free and fixed and tuning.buckets:
        for key, batch in (("min", min(tuning.buckets)), ("opt", max(tuning.buckets)), ("max", max(tuning.buckets))):
            options[f"trt_profile_{key}_shapes"] = ",".join(
                f"{name}:" + "x".join(map(str, [batch, *dims[1:]])) for name, dims in free.items()
            )
    return options
