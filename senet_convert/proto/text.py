"""Reads text prototxts, in every spelling of protobuf's text format that Caffe's own parser accepts.

Not protobuf's parser, for three reasons: each message must know its line (errors name it), a field that only a fork of
Caffe knows must not stop a net in which its layer does not count, and the `# mean_value` comments of the released
networks carry their preprocessing. The tests hold this reader against protobuf's on the same files.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from google.protobuf.descriptor import Descriptor

from ..errors import ReadError, did_you_mean
from .kinds import HEAD, UTF8_MARK, other_kind
from .scalars import Token, integer, real, string
from .tree import MAX_LAYERS, NET, Fault, Field, Tree, fields, name_of
from .unknown import value_of

MAX_BYTES = 1 << 23  # the largest public prototxt has under 1 MiB
MAX_TOKENS = 500_000  # in 1 MiB there are about 130 000
MAX_KEPT = 10_000  # tokens of an unknown value; no layer's own message comes near it
MAX_DEPTH = 64  # of unknown messages; known ones nest no deeper than the format

# One token with what stands before it. Possessive repetitions ('++'): a broken file costs no backtracking.
_TOKEN = re.compile(
    r"""(?P<skip>(?:[ \t\r\n\f\v]++|\#[^\n]*+)*+)
      (?:(?P<name>[A-Za-z_][A-Za-z0-9_]*+)
      | (?P<number>-?[ \t\r\n\f\v]*+
            (?:0[xX][0-9a-fA-F]++|(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?[fF]?|inf(?:inity)?|nan)
            (?![A-Za-z0-9_.]))
      | (?P<string>"(?:[^"\\\n]++|\\[^\n])*+"|'(?:[^'\\\n]++|\\[^\n])*+')
      | (?P<mark>[{}<>\[\]:;,])
      | (?P<end>\Z)
      | (?P<fault>))""",  # what nothing else fits: every match begins where the one before ends
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)
_COMMENT = re.compile(r"#([^\n]*)")
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f]")
_TRUE, _FALSE = {"true", "True", "t"}, {"false", "False", "f"}
_CLOSING = {"{": "}", "<": ">"}
_LIMITS = {"int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1), "uint32": (0, 2**32 - 1)}
_LAYERS = {"LayerParameter", "V1LayerParameter", "V0LayerParameter"}
SHOWN = 40  # characters of a token in a message
MAX_VALUES = 10  # of an enum, that a message lists
MAX_LOOKED_UP = 40  # unknown fields of a file for which like names are sought
MAX_FAULTS = 20  # values that do not fit, of a file; with that many it is no network


def read_text(path: Path) -> tuple[Tree, tuple[str, ...]]:
    """The NetParameter in a prototxt, and the comments that stand in it (without the '#').

    Raises ReadError with file, line and column: not text, or not in protobuf's text format.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        raw = file.read(HEAD)
        what = other_kind(raw)
        if what is not None:
            raise ReadError(f"{path}: not a text prototxt: {what}")
        if size > MAX_BYTES:
            raise ReadError(f"{path}: {size} bytes is too much for a prototxt; is it the caffemodel?")
        raw = (raw + file.read()).removeprefix(UTF8_MARK)
    if not raw.strip():
        raise ReadError(f"{path}: the prototxt is empty; give the network's deploy prototxt, or only the caffemodel")
    control = _CONTROL.search(raw)
    if control is not None:
        raise ReadError(
            f"{path}: not a text prototxt: byte 0x{control.group()[0]:02x} at offset {control.start()}. "
            "Is it a binary caffemodel, or are the two files swapped?"
        )
    parser = _Parser(str(path), raw.decode("utf-8", errors="surrogateescape"))
    net = parser.message(NET, end="")
    parser.finish()
    return net, tuple(parser.comments)


class _Parser:
    def __init__(self, where: str, source: str) -> None:
        self.where = where
        self.source = source
        self.lines = [0, *(m.end() for m in re.finditer("\n", source))]
        self.comments: list[str] = []
        self.matches = _TOKEN.finditer(source)
        self.left = MAX_TOKENS
        self.looked_up = 0  # unknown fields of which like names were sought
        self.open: list[Tree] = []  # the layers around the token, innermost last
        self.faults: list[tuple[int, Tree | None, str]] = []  # offset, layer, what is wrong
        self.token: Token
        self._advance()

    def message(self, kind: Descriptor, end: str, line: int = 1) -> Tree:
        """Fields up to the closing mark `end` ('' for the end of the file)."""
        tree = Tree(line)
        if kind.name in _LAYERS:
            self.open.append(tree)
        table = fields(kind)
        while not self._closes(end, line):
            name, at = self._take("name", "a field name")
            known = table.get(name)
            if known is None:
                value = value_of(self._skip_value(_short(name)))
                fault = f"unknown field {_short(name)} of {kind.name}{self._alike(name, table)}"
                tree.faults.append(Fault(self._line(at), fault, (name,), value))
            elif known.repeated:
                values = tree.setdefault(name, [])
                values.extend(self._repeated(known, tree))
                if known.message is not None and len(values) > MAX_LAYERS:
                    self._fail(at, f"more than {MAX_LAYERS} messages '{name}' in one {kind.name}")
            elif name in tree:
                self._note(at, f"field '{name}' of {kind.name} stands twice; it may stand once")
                self._value(known, tree)
            else:
                tree[name] = self._value(known, tree)
            if self.token.text in (";", ","):
                self._advance()
        if kind.name in _LAYERS:
            self.open.pop()
        return tree

    def _alike(self, name: str, table: Iterable[str]) -> str:
        """Which names are like this one, as many times as a message can show."""
        self.looked_up += 1
        return did_you_mean(name, table) if self.looked_up <= MAX_LOOKED_UP else ""

    def _closes(self, end: str, line: int) -> bool:
        if self.token.kind == "end":
            if end:
                self._fail(self.token.at, f"the file ends inside the message that begins in line {line}: '{end}' lacks")
            return True
        if end and self.token.text == end:
            self._advance()
            return True
        return False

    def _repeated(self, field: Field, tree: Tree) -> list[Any]:
        self._colon(field)
        if self.token.text != "[":
            return [self._scalar_or_message(field, tree)]
        self._advance()
        values: list[Any] = []
        while self.token.text != "]":
            if values:
                self._expect(",")
            values.append(self._scalar_or_message(field, tree))
        self._advance()
        return values

    def _value(self, field: Field, tree: Tree) -> Any:
        self._colon(field)
        return self._scalar_or_message(field, tree)

    def _colon(self, field: Field) -> None:
        """Needed before scalars, allowed before messages."""
        if field.kind != "message" or self.token.text == ":":
            self._expect(":")

    def _scalar_or_message(self, field: Field, tree: Tree) -> Any:
        token = self.token
        if field.message is not None:
            if token.text not in _CLOSING:
                self._fail(token.at, f"field '{field.name}' needs '{{', found {_shown(token)}")
            self._advance()
            return self.message(field.message, _CLOSING[token.text], self._line(token.at))
        if field.kind == "string":
            return self._string(field)
        is_scalar = token.kind in ("name", "number")
        value = self._scalar(field, token, tree) if is_scalar else None
        if value is None:
            what = f"field '{field.name}' needs a value of kind {field.kind}, found {_shown(token)}"
            if field.kind in _LIMITS:
                what += f"; it takes whole numbers from {_LIMITS[field.kind][0]} to {_LIMITS[field.kind][1]}"
            (self._note if is_scalar else self._fail)(token.at, what)
        self._advance()
        return value

    def _scalar(self, field: Field, token: Token, tree: Tree) -> Any:
        """The value of one token, None when it does not fit the field."""
        if field.kind == "enum":
            return self._enum(field, token, tree)
        if field.kind in ("float", "double"):
            return real(token.text, single=field.kind == "float")
        number = integer(token.text)
        if field.kind == "bool":
            return (
                True if token.text in _TRUE or number == 1 else False if token.text in _FALSE or number == 0 else None
            )
        low, high = _LIMITS[field.kind]
        return number if number is not None and low <= number <= high else None

    def _enum(self, field: Field, token: Token, tree: Tree) -> str:
        number = integer(token.text)
        name = field.names.get(number, token.text) if number is not None else token.text
        if name not in field.values:
            few = len(field.values) <= MAX_VALUES
            others = f"{len(field.values)} others{'' if few else self._alike(token.text, field.values)}"
            known = f"; it has {', '.join(field.values) if few else others}"
            text = f"field '{field.name}' has no value {_shown(token)}{known}"
            tree.faults.append(Fault(self._line(token.at), text))
        return name

    def _string(self, field: Field) -> str:
        pieces = [self._piece(f"a string for field '{field.name}'")]
        while self.token.kind == "string":
            pieces.append(self._piece("a string"))
        return name_of(b"".join(pieces))

    def _piece(self, what: str) -> bytes:
        text, at = self._take("string", what)
        try:
            return string(text)
        except ValueError as fault:
            self._fail(at, str(fault))

    def _skip_value(self, name: str) -> list[Token]:
        """Step over the value of an unknown field: a scalar, a list, or a message however deep.

        Gives its tokens, none where they are too many to keep.
        """
        if self.token.text == ":":
            self._advance()
        open_marks: list[str] = []
        tokens: list[Token] = []
        while True:
            token = self.token
            if token.kind == "end":
                self._fail(token.at, f"the file ends inside the value of the unknown field {name}")
            if token.text in ("{", "<", "["):
                open_marks.append({"[": "]", **_CLOSING}[token.text])
                if len(open_marks) > MAX_DEPTH:
                    self._fail(token.at, f"messages nest more than {MAX_DEPTH} deep")
            elif token.text in ("}", ">", "]") and open_marks[-1:] == [token.text]:
                open_marks.pop()
            elif token.text in ("}", ">", "]") or (token.kind == "mark" and not open_marks):
                self._fail(token.at, f"the unknown field {name} has no value before {_shown(token)}")
            if len(tokens) <= MAX_KEPT:
                tokens.append(token)
            self._advance()
            if not open_marks:
                while token.kind == "string" and self.token.kind == "string":
                    tokens.append(self.token)
                    self._advance()
                return tokens if len(tokens) <= MAX_KEPT else []

    def _take(self, kind: str, what: str) -> tuple[str, int]:
        token = self.token
        if token.kind != kind:
            self._fail(token.at, f"{what} is needed here, found {_shown(token)}")
        self._advance()
        return token.text, token.at

    def _expect(self, mark: str) -> None:
        if self.token.text != mark:
            self._fail(self.token.at, f"'{mark}' is needed here, found {_shown(self.token)}")
        self._advance()

    def _advance(self) -> None:
        """On to the next token, of which the end is the last; the comments before it are kept."""
        match = next(self.matches)
        kind, skip, start = str(match.lastgroup), match["skip"], match.end("skip")
        if "#" in skip:
            self.comments += (_readable(comment).strip() for comment in _COMMENT.findall(skip))
        self.left -= 1
        if self.left < 0:
            self._fail(start, f"more than {MAX_TOKENS} words and signs, many times those of the largest networks")
        if kind == "fault":
            found = self.source[start : start + 16].split("\n")[0]
            unclosed = found[0] in "\"'"
            what = (
                f"the string {found} has no closing {found[0]} in its line"
                if unclosed
                else f"'{found}' is not valid here"
            )
            self._fail(start, what)
        self.token = Token(kind, match[kind], start if kind != "end" else len(self.source.rstrip()))

    def _line(self, at: int) -> int:
        return bisect_right(self.lines, at)

    def _note(self, at: int, what: str) -> None:
        """A fault behind which reading can go on; `finish` raises it."""
        self.faults.append((at, self.open[-1] if self.open else None, what))
        if len(self.faults) >= MAX_FAULTS:
            self._refuse()

    def _fail(self, at: int, what: str) -> NoReturn:
        self.faults.append((at, self.open[-1] if self.open else None, what))
        self._refuse()

    def finish(self) -> None:
        """Raise ReadError where there are faults: in the end, as a layer's name may stand behind the fault."""
        if self.faults:
            self._refuse()

    def _refuse(self) -> NoReturn:
        found = [(*self._place(at), f"{_where(layer)}{_readable(what)}") for at, layer, what in self.faults]
        if len(found) == 1:
            line, column, what = found[0]
            raise ReadError(f"{self.where}:{line}:{column}: {what}")
        lines = [f"  - line {line}, column {column}: {what}" for line, column, what in found]
        raise ReadError("\n".join([f"{self.where}: {len(found)} problems", *lines]))

    def _place(self, at: int) -> tuple[int, int]:
        """Line and column, from 1."""
        line = self._line(at)
        return line, at - self.lines[line - 1] + 1


def _where(layer: Tree | None) -> str:
    """The layer by its name, or by its line where it has none, or none yet."""
    if layer is None:
        return ""
    return f"layer {_short(layer['name'])}: " if layer.get("name") else f"layer of line {layer.line}: "


def _shown(token: Token) -> str:
    return "the end of the file" if token.kind == "end" else _short(token.text)


def _short(text: str) -> str:
    return f"'{text}'" if len(text) <= SHOWN else f"'{text[:SHOWN]}...'"


def _readable(text: str) -> str:
    """Without the surrogates that stand for bytes that are not UTF-8: they could not be printed."""
    return name_of(text.encode("utf-8", errors="surrogateescape"))
