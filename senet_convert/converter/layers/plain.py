"""Plain values of a text made to fit the fields of a layer type, as protobuf's schema does for fields that it knows."""

from __future__ import annotations

from collections.abc import Mapping
from ctypes import c_float
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from .base import Layer, LayerFault

_TRUTH = {True: True, False: False, "t": True, "f": False}  # 1 and 0 are equal to the first two


def fitted(kind: type[Layer], given: Mapping[str, Any]) -> dict[str, Any]:
    """The values of those fields that the type has, each as its annotation says: float as Caffe's float32, tuple from
    one value or several. Raises LayerFault for a value that does not fit.
    """
    hints = get_type_hints(kind)
    return {name: _fit(name, value, hints[name]) for name, value in given.items() if name in hints}


def _fit(name: str, value: Any, hint: Any) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        (hint, *more) = [arg for arg in args if arg is not NoneType]
        return value if more else _fit(name, value, hint)
    if origin is tuple:
        items = value if isinstance(value, (list, tuple)) else (value,)
        return tuple(_fit(name, item, args[0]) for item in items)
    if hint not in _SCALARS:
        return value
    fit = _SCALARS[hint](value)
    if fit is None:
        raise LayerFault(f"field '{name}' needs a value of kind {hint.__name__}, found {value!r}")
    return fit


def _bool(value: Any) -> bool | None:
    return _TRUTH.get(value) if isinstance(value, (bool, int, str)) else None


def _int(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _float(value: Any) -> float | None:
    if isinstance(value, str) and value.lower() in ("inf", "infinity", "nan"):
        return float(value)
    return c_float(value).value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _str(value: Any) -> str | None:
    """A string, or the name of an enum's value."""
    return value if isinstance(value, str) else None


_SCALARS: Mapping[Any, Any] = {bool: _bool, int: _int, float: _float, str: _str}
