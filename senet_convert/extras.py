"""Which extra brings a package that is not installed: the smallest that is enough."""

from __future__ import annotations

from collections.abc import Mapping

EXTRAS: Mapping[str, str] = {
    "torch": "convert",
    "safetensors": "convert",
    "onnxruntime": "cpu",
    "h5py": "hdf5",
    "pyarrow": "parquet",
    "msgspec": "serve",
    "orjson": "serve",
    "starlette": "serve",
    "uvicorn": "serve",
    "httptools": "serve",
    "prometheus_client": "serve",
    "python_multipart": "serve",
    "offapi": "serve",
    "grpc": "grpc",
    "grpc_health": "grpc",
    "tritonclient": "grpc",
    "opentelemetry": "otel",
}


def lacking(name: str | None) -> str:
    """What to do about a module that cannot be imported, by its name: a line for the user."""
    package = (name or "").partition(".")[0]
    extra = EXTRAS.get(package)
    if extra is None:
        return f"the package '{package}' is not installed; it belongs to senet-convert itself: install that again"
    return f"the package '{package}' is not installed; this is enough: pip install 'senet-convert[{extra}]'"
