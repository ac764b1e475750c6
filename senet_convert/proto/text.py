"""Reads text prototxts, in every spelling of protobuf's text format that Caffe's own parser accepts.

Not protobuf's parser, for three reasons: each message must know its line (errors name it), a field that only a fork of
Caffe knows must not stop a net in which its layer does not count, and the `# mean_value` comments of the released
networks carry their preprocessing. The tests hold this reader against protobuf's on the same files.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from ctypes import c_float
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from google.protobuf import text_encoding
from google.protobuf.descriptor import Descriptor

from ..errors import ReadError
from .tree import NET, Fault, Field, Tree, fields

MAX_BYTES = 1 << 26  # the largest public prototxt has under 1 MiB
MAX_DEPTH = 64  # of unknown messages; known ones nest no deeper than the format

_TOKEN = re.compile(
    r"""(?P<skip>(?:[ \t\r\n\f\v]+|\#[^\n]*)+)
      | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<number>-?\s*(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?[fF]?|inf(?:inity)?|nan)
            (?![A-Za-z0-9_.]))
      | (?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
      | (?P<mark>[{}<>\[\]:;,])""",
    re.VERBOSE | re.IGNORECASE,
)
_COMMENT = re.compile(r"#([^\n]*)")
_TRUE, _FALSE = {"true", "True", "t", "1"}, {"false", "False", "f", "0"}
_CLOSING = {"{": "}", "<": ">"}
_LIMITS = {"int": (-(2**63), 2**63 - 1), "uint": (0, 2**32 - 1)}


@dataclass(frozen=True)
class Token:
    kind: str  # name, number, string, mark, end
    text: str
    at: int


def read_text(path: Path) -> tuple[Tree, tuple[str, ...]]:
    """The NetParameter in a prototxt, and the comments that stand in it (without the '#').

    Raises ReadError with file, line and column: not text, or not in protobuf's text format.
    """
    if path.stat().st_size > MAX_BYTES:
        raise ReadError(f"{path}: {path.stat().st_size} bytes is too much for a prototxt; is it the caffemodel?")
    raw = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    if not raw.strip():
        raise ReadError(f"{path}: the prototxt is empty; give the network's deploy prototxt, or only the caffemodel")
    control = next((at for at, byte in enumerate(raw) if byte < 9 or 13 < byte < 32), None)
    if control is not None:
        raise ReadError(
            f"{path}: not a text prototxt: byte 0x{raw[control]:02x} at offset {control}. "
            "Is it a binary caffemodel, or are the two files swapped?"
        )
    source = raw.decode("utf-8", errors="replace")
    parser = _Parser(str(path), source)
    net = parser.message(NET, end="")
    return net, tuple(m.group(1).strip() for m in _COMMENT.finditer(source))


class _Parser:
    def __init__(self, where: str, source: str) -> None:
        self.where = where
        self.source = source
        self.lines = [0, *(m.end() for m in re.finditer("\n", source))]
        self.at = 0
        self.token = self._scan()

    def message(self, kind: Descriptor, end: str, line: int = 1) -> Tree:
        """Fields up to the closing mark `end` ('' for the end of the file)."""
        tree = Tree(line)
        table = fields(kind)
        while not self._closes(end, line):
            name, at = self._take("name", "a field name")
            known = table.get(name)
            if known is None:
                tree.faults.append(Fault(self._line(at), f"unknown field '{name}' of {kind.name}"))
                self._skip_value()
            elif known.repeated:
                tree.setdefault(name, []).extend(self._repeated(known, tree))
            elif name in tree:
                self._fail(at, f"field '{name}' of {kind.name} stands twice; it may stand once")
            else:
                tree[name] = self._value(known, tree)
            if self.token.text in (";", ","):
                self._advance()
        return tree

    def _closes(self, end: str, line: int) -> bool:
        if self.token.kind == "end":
            if end:
                self._fail(self.token.at, f"the file ends inside the message that begins in line {line}: '{end}' lacks")
            return True
        if end and self.token.text == end and self.token.kind == "mark":
            self._advance()
            return True
        return False

    def _repeated(self, field: Field, tree: Tree) -> list[Any]:
        if field.kind != "message":
            self._expect(":")
        elif self.token.text == ":":
            self._advance()
        if self.token.text != "[" or self.token.kind != "mark":
            return [self._scalar_or_message(field, tree)]
        self._advance()
        values: list[Any] = []
        while self.token.text != "]":
            values.append(self._scalar_or_message(field, tree))
            if self.token.text != "]":
                self._expect(",")
        self._advance()
        return values

    def _value(self, field: Field, tree: Tree) -> Any:
        if field.kind != "message":
            self._expect(":")
        elif self.token.text == ":":
            self._advance()
        return self._scalar_or_message(field, tree)

    def _scalar_or_message(self, field: Field, tree: Tree) -> Any:
        token = self.token
        if field.message is not None:
            if token.text not in _CLOSING or token.kind != "mark":
                self._fail(token.at, f"field '{field.name}' needs '{{', found '{token.text}'")
            self._advance()
            return self.message(field.message, _CLOSING[token.text], self._line(token.at))
        if field.kind in ("string", "bytes"):
            return self._string(field)
        self._advance()
        if token.kind in ("name", "number"):
            value = self._scalar(field, token, tree)
            if value is not None:
                return value
        self._fail(token.at, f"field '{field.name}' needs a value of kind {field.kind}, found '{token.text}'")

    def _scalar(self, field: Field, token: Token, tree: Tree) -> Any:
        """The value of one token, None when it does not fit the field."""
        text = token.text
        if field.kind == "bool":
            return True if text in _TRUE else False if text in _FALSE else None
        if field.kind == "enum":
            if text in field.values:
                return text
            number = _integer(text)
            if number in field.names:
                return field.names[number]
            tree.faults.append(
                Fault(
                    self._line(token.at),
                    f"field '{field.name}' has no value '{text}'; it has {', '.join(field.values)}",
                )
            )
            return text
        if field.kind == "float":
            return _float(text)
        number = _integer(text)
        low, high = _LIMITS[field.kind]
        return number if number is not None and low <= number <= high else None

    def _string(self, field: Field) -> str:
        parts = [self._take("string", f"a string for field '{field.name}'")[0]]
        while self.token.kind == "string":
            parts.append(self._take("string", "a string")[0])
        raw = b"".join(text_encoding.CUnescape(part[1:-1]) for part in parts)
        return raw.decode("utf-8", errors="replace")

    def _skip_value(self) -> None:
        """Step over the value of an unknown field: a scalar, a list, or a message however deep."""
        if self.token.text == ":":
            self._advance()
        open_marks: list[str] = []
        while True:
            token = self.token
            if token.kind == "end":
                self._fail(token.at, "the file ends inside the value of an unknown field")
            self._advance()
            if token.kind == "mark" and token.text in "{<[":
                open_marks.append({"[": "]", **_CLOSING}[token.text])
                if len(open_marks) > MAX_DEPTH:
                    self._fail(token.at, f"messages nest more than {MAX_DEPTH} deep")
            elif open_marks and token.kind == "mark" and token.text == open_marks[-1]:
                open_marks.pop()
            if not open_marks:
                while token.kind == "string" and self.token.kind == "string":
                    self._advance()
                return

    def _take(self, kind: str, what: str) -> tuple[str, int]:
        token = self.token
        if token.kind != kind:
            found = f"found '{token.text}'" if token.text else "the file ends"
            self._fail(token.at, f"{what} is needed here, {found}")
        self._advance()
        return token.text, token.at

    def _expect(self, mark: str) -> None:
        if self.token.text != mark or self.token.kind != "mark":
            found = f"found '{self.token.text}'" if self.token.text else "the file ends"
            self._fail(self.token.at, f"'{mark}' is needed here, {found}")
        self._advance()

    def _advance(self) -> None:
        self.token = self._scan()

    def _scan(self) -> Token:
        while self.at < len(self.source):
            match = _TOKEN.match(self.source, self.at)
            if match is None:
                self._fail(self.at, f"'{self.source[self.at : self.at + 16].splitlines()[0]}' is not valid here")
            start, self.at = self.at, match.end()
            if match.lastgroup != "skip":
                return Token(str(match.lastgroup), match.group(), start)
        return Token("end", "", len(self.source.rstrip()))

    def _line(self, at: int) -> int:
        return bisect_right(self.lines, at)

    def _fail(self, at: int, what: str) -> NoReturn:
        line = self._line(at)
        raise ReadError(f"{self.where}:{line}:{at - self.lines[line - 1] + 1}: {what}")


def _integer(text: str) -> int | None:
    sign, digits = (-1, text[1:].lstrip()) if text.startswith("-") else (1, text)
    try:
        if digits[:2] in ("0x", "0X"):
            return sign * int(digits, 16)
        return sign * int(digits, 8 if digits.startswith("0") and digits != "0" else 10)
    except ValueError:
        return None


def _float(text: str) -> float | None:
    """As Caffe holds it: rounded to float32."""
    digits = "".join(text.split()).lower()
    if "x" in digits:
        whole = _integer(digits)
        return None if whole is None else c_float(whole).value
    try:
        return c_float(float(digits.removesuffix("f") if "inf" not in digits else digits)).value
    except ValueError:
        return None
