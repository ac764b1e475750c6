"""Layer types from outside: of installed packages (an entry point group) and of a person's own file.

`LAYERS` stays what this package brings; a registry is a new dict with it and the others. docs/custom_layers.md shows
how a layer type is written.
"""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Iterable, Mapping
from hashlib import sha256
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from ...errors import ConvertError
from ...files import require_file
from . import LAYERS, Layer

GROUP = "senet_convert.layers"  # entry points: name = Caffe's type, value = the class

Registry = Mapping[str, type[Layer]]


def merged(types: Iterable[str], own: Registry, reserved: Iterable[str] = ()) -> dict[str, type[Layer]]:
    """`LAYERS`, what a person's own file brings, and those entry points whose names are among `types`.

    Only what the network needs is imported, so that a package that is broken or at odds with ours stops no other
    network. `reserved` types have a meaning without a class. Raises ConvertError with every type that has two.
    """
    found = dict(LAYERS)
    sources = dict.fromkeys(LAYERS, "senet-convert") | dict.fromkeys(reserved, "senet-convert")
    clashes: list[str] = []
    for name, kind in own.items():
        _add(found, sources, name, kind, f"the file of {_file_of(kind)}", clashes)
    wanted = set(types)
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: (entry.name, entry.value)):
        if entry.name in wanted:
            package = entry.dist.name if entry.dist else "unknown"
            _add(found, sources, entry.name, entry, f"the package {package} ({entry.value})", clashes)
    if clashes:
        raise ConvertError("\n".join(clashes))
    return found


def _add(
    found: dict[str, type[Layer]],
    sources: dict[str, str],
    name: str,
    kind: type[Layer] | EntryPoint,
    source: str,
    clashes: list[str],
) -> None:
    if name in sources:
        clashes.append(
            f"layer type '{name}' comes from {sources[name]} and from {source}; remove one of them, or rename the type "
            "there and in the prototxt"
        )
        return
    sources[name] = source
    found[name] = kind if isinstance(kind, type) else _load(kind, source)


def _file_of(kind: type[Layer]) -> str:
    return str(getattr(sys.modules.get(kind.__module__), "__file__", None) or kind.__module__)


def _load(entry: EntryPoint, source: str) -> type[Layer]:
    try:
        kind = entry.load()
    except (Exception, SystemExit) as fault:
        raise ConvertError(
            f"layer type '{entry.name}' of {source} cannot be imported: {_said(fault)}. Repair or remove the package"
        ) from fault
    return checked(entry.name, kind, source)


def from_file(path: Path) -> dict[str, type[Layer]]:
    """The layer types of a Python file: its dict LAYERS, else its subclasses of Layer by their names.

    Raises ConvertError: the file cannot be imported, or holds no layer type.
    """
    require_file(path, ".py")
    module = _imported(path)
    given = vars(module).get("LAYERS")
    if given is LAYERS or not isinstance(given, Mapping):
        given = {name: item for name, item in vars(module).items() if _is_own_layer(item, module)}
    if not given:
        raise ConvertError(
            f"{path}: it holds no layer type: no subclass of senet_convert.converter.layers.Layer, and no dict LAYERS"
        )
    return {str(name): checked(str(name), kind, str(path)) for name, kind in given.items()}


def _imported(path: Path) -> ModuleType:
    name = f"senet_convert_layers_{sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConvertError(f"{path}: not a Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as fault:  # sys.exit() in it is not the end of the command
        del sys.modules[name]
        raise ConvertError(f"{path}{_line(path, fault)}: the file cannot be imported: {_said(fault)}") from fault
    return module


def _said(fault: BaseException) -> str:
    return f"{type(fault).__name__}: {fault}" if str(fault) else type(fault).__name__


def _line(path: Path, fault: BaseException) -> str:
    """':7' for the last line of the file that was running."""
    if isinstance(fault, SyntaxError):
        return f":{fault.lineno}" if fault.lineno else ""
    lines = [frame.lineno for frame in traceback.extract_tb(fault.__traceback__) if frame.filename == str(path)]
    return f":{lines[-1]}" if lines else ""


def _is_own_layer(item: Any, module: ModuleType) -> bool:
    return (
        isinstance(item, type)
        and issubclass(item, Layer)
        and item.__module__ == module.__name__
        and not item.__name__.startswith("_")
    )


def checked(name: str, kind: Any, source: str) -> type[Layer]:
    """The class, if it is one that a graph can be built with. Raises ConvertError."""
    if not (isinstance(kind, type) and issubclass(kind, Layer)):
        raise ConvertError(
            f"{source}: layer type '{name}' is {kind!r}, not a subclass of senet_convert.converter.layers.Layer"
        )
    if "__dataclass_fields__" not in vars(kind):
        raise ConvertError(f"{source}: class {kind.__name__} lacks the decorator @dataclass(frozen=True)")
    lacking = [method for method in ("torch", "onnx") if getattr(kind, method) is getattr(Layer, method)]
    if lacking:
        raise ConvertError(f"{source}: class {kind.__name__} does not define {' and '.join(lacking)}()")
    return kind
