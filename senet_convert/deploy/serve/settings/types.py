"""Kinds of settings: how a value is read from words and from TOML, and how it is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ....errors import ConvertError
from ..models import model_paths
from ..models.model_paths import ModelPath

_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}
_YES, _NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


@dataclass(frozen=True)
class Kind:
    """`read` takes a word, or what TOML has in its place, and raises ValueError with what is wrong; `write` undoes it.

    `metavar` stands for the value in help. With `one` several can be given, each of that kind, as a tuple.
    """

    metavar: str
    read: Callable[[Any], Any]
    write: Callable[[Any], str] = str
    one: Kind | None = None


def whole(lowest: int, highest: int | None = None) -> Kind:
    """A whole number within bounds."""

    def read(value: Any) -> int:
        if isinstance(value, bool | float):
            raise ValueError(f"{value} is no whole number")
        try:
            found = int(value)
        except (TypeError, ValueError):
            raise ValueError(f"'{value}' is no whole number") from None
        return _within(found, lowest, highest)

    return Kind("N", read)


def number(lowest: float, scale: float = 1.0, metavar: str = "SECONDS") -> Kind:
    """A number that is not below `lowest`; `scale` is what it is multiplied with to be stored."""

    def read(value: Any) -> float:
        if isinstance(value, bool):
            raise ValueError(f"{value} is no number")
        try:
            found = float(value)
        except (TypeError, ValueError):
            raise ValueError(f"'{value}' is no number") from None
        if not lowest <= found < float("inf"):
            raise ValueError(f"{value} is not a number of at least {lowest:g}")
        return found * scale

    return Kind(metavar, read, lambda value: f"{value / scale:g}")


def size(lowest: int) -> Kind:
    """Bytes: a number, or one with k, M or G behind it (of 1024)."""

    def read(value: Any) -> int:
        word = str(value).strip().lower().removesuffix("ib").removesuffix("b")
        digits = word.rstrip("kmg")
        if isinstance(value, bool) or not digits.isdecimal() or word[len(digits) :] not in _UNITS:
            raise ValueError(f"'{value}' is no size such as 512k, 64M or 1G")
        return _within(int(digits) * _UNITS[word[len(digits) :]], lowest, None)

    def write(value: int) -> str:
        for unit in ("g", "m", "k"):
            if value and value % _UNITS[unit] == 0:
                return f"{value // _UNITS[unit]}{unit if unit == 'k' else unit.upper()}"
        return str(value)

    return Kind("SIZE", read, write)


def choice(*words: str) -> Kind:
    """One of some words."""

    def read(value: Any) -> str:
        if value not in words:
            raise ValueError(f"'{value}' is none of {', '.join(words)}")
        return str(value)

    return Kind("|".join(words), read)


def _within(value: int, lowest: int, highest: int | None) -> int:
    if value < lowest or (highest is not None and value > highest):
        bounds = f"{lowest} or more" if highest is None else f"from {lowest} to {highest}"
        raise ValueError(f"{value} is not {bounds}")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{value!r} is no text")
    return value


def _switch(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if str(value).lower() in _YES + _NO:
        return str(value).lower() in _YES
    raise ValueError(f"'{value}' is neither on nor off")


def _path(value: Any) -> Path:
    return Path(_text(value))


def _file(value: Any) -> Path:
    path = _path(value)
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file")
    return path


def _folder(value: Any) -> Path:
    path = _path(value)
    if not path.is_dir():
        raise ValueError(f"{path}: there is no such folder")
    return path


def _model(value: Any) -> ModelPath:
    """PATH or NAME=PATH; in TOML also a table of name and path."""
    if isinstance(value, dict):
        unknown = sorted(set(value) - {"name", "path"})
        if unknown or "path" not in value:
            given = ", ".join(sorted(value)) or "nothing"
            raise ValueError(f"a model is a table of path and perhaps name, not of {given}")
        value = f"{_text(value['name'])}={_text(value['path'])}" if "name" in value else _text(value["path"])
    try:
        return model_paths.parse(_text(value))
    except ConvertError as fault:
        raise ValueError(str(fault)) from fault


def _several(one: Kind) -> Kind:
    """A list in TOML, words with commas between them elsewhere."""

    def read(value: Any) -> tuple[Any, ...]:
        if isinstance(value, str):
            value = [word.strip() for word in value.split(",") if word.strip()]
        if not isinstance(value, Sequence):
            raise ValueError(f"{value!r} is no list")
        return tuple(one.read(item) for item in value)

    return Kind(one.metavar, read, lambda values: ",".join(map(one.write, values)), one)


TEXT = Kind("TEXT", _text)
SWITCH = Kind("", _switch, lambda value: "on" if value else "off")
PATH = Kind("PATH", _path)
FILE = Kind("FILE", _file)
FOLDER = Kind("DIR", _folder)


def _prefix(value: Any) -> str:
    word = "" if value == "" else _text(value).rstrip("/")
    if word and (not word.startswith("/") or any(sign in word for sign in "?#% ")):
        raise ValueError(f"'{value}' is no path such as /inference")
    return word


PREFIX = Kind("PATH", _prefix)
SECONDS = number(0)
MILLISECONDS = number(0, 1e-3, "MS")
PORT = whole(0, 65535)
TEXTS = _several(TEXT)
MODELS = _several(Kind("MODEL", _model, lambda place: f"{place.name}={place.path}"))
