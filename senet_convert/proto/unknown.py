"""Values of fields that Caffe's format does not know, as far as their text alone tells them.

A message is a Tree, in it every field its value, or a list where it stands several times; a list is a list. Scalars are
int, float, bool (true, false) and str, names of enum values among them. What a field really is, only its fork knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .scalars import Token, integer, real, string
from .tree import Tree, name_of

_CLOSING = {"{": "}", "<": ">"}
_END = Token("end", "", 0)


def value_of(tokens: Sequence[Token]) -> Any:
    """The value that these tokens write; None where they write none."""
    reader = _Reader(tokens)
    try:
        value = reader.value()
    except ValueError:
        return None
    return value if reader.at == len(tokens) else None


class _Reader:
    def __init__(self, tokens: Sequence[Token]) -> None:
        self.tokens = tokens
        self.at = 0

    @property
    def token(self) -> Token:
        return self.tokens[self.at] if self.at < len(self.tokens) else _END

    def take(self) -> Token:
        token = self.token
        self.at += 1
        return token

    def value(self) -> Any:
        token = self.take()
        if token.text in _CLOSING:
            return self.message(_CLOSING[token.text])
        if token.text == "[":
            return self.items()
        if token.kind == "string":
            pieces = [string(token.text)]
            while self.token.kind == "string":
                pieces.append(string(self.take().text))
            return name_of(b"".join(pieces))
        if token.kind not in ("name", "number"):
            raise ValueError
        return _scalar(token)

    def items(self) -> list[Any]:
        found: list[Any] = []
        while self.token.text != "]":
            if found and self.take().text != ",":
                raise ValueError
            found.append(self.value())
        self.at += 1
        return found

    def message(self, end: str) -> Tree:
        found: dict[str, list[Any]] = {}
        while self.token.text != end:
            name = self.take()
            if name.kind != "name":
                raise ValueError
            self.at += self.token.text == ":"
            value = self.value()
            found.setdefault(name.text, []).extend(value if isinstance(value, list) else [value])
            self.at += self.token.text in (";", ",")
        self.at += 1
        tree = Tree()
        tree.update({name: values[0] if len(values) == 1 else values for name, values in found.items()})
        return tree


def _scalar(token: Token) -> Any:
    if token.kind == "name":
        return {"true": True, "True": True, "false": False, "False": False}.get(token.text, token.text)
    whole = integer(token.text)
    number = whole if whole is not None else real(token.text, single=False)
    if number is None:
        raise ValueError
    return number
