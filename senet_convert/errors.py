"""Errors for the person who holds only the file: they name the file, the layer, the numbers, and what to do.

`ConvertError` is the one root class; the command line turns it into exit code 1 and one message. Work that can find
several faults collects them in `Problems` and raises once, with every one of them listed.
"""

from __future__ import annotations

from collections.abc import Iterator

SHOWN = 40  # a message lists at most this many problems; the count is always given


class ConvertError(Exception):
    """Anything that the toolkit refuses, with a message written for the user."""


class ReadError(ConvertError):
    """A file is not what it should be: truncated, of another kind, not parsable."""


class GraphError(ConvertError):
    """A network is not valid, or holds what this version does not support."""


class WeightsError(ConvertError):
    """Blobs of the caffemodel and layers of the network do not match."""


class CheckError(ConvertError):
    """What was converted does not compute what the original computes."""


class Problems:
    """Collects problems and raises them as one error.

    >>> problems = Problems("net.prototxt: 2 problems")
    >>> problems.add("layer 'a': ...")
    >>> problems.raise_as(GraphError)
    """

    def __init__(self, where: str) -> None:
        self.where = where
        self._items: dict[str, None] = {}

    def add(self, problem: str) -> None:
        """One more problem; saying it twice lists it once."""
        self._items[problem] = None

    def __bool__(self) -> bool:
        return bool(self._items)

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def raise_as(self, kind: type[ConvertError], advice: str = "") -> None:
        """Raise `kind` with all problems when there are any; `advice` is a last line that says what to do."""
        if not self._items:
            return
        items = list(self._items)
        if len(items) == 1:
            lines = [f"{self.where}: {items[0]}"]
        else:
            lines = [f"{self.where}: {len(items)} problems", *(f"  - {item}" for item in items[:SHOWN])]
            if len(items) > SHOWN:
                lines.append(f"  ... and {len(items) - SHOWN} more")
        if advice:
            lines.append(advice)
        raise kind("\n".join(lines))


def listed(names: list[str], limit: int = 12) -> str:
    """'a, b, c' with a count of what was left out: for lists of names inside a message."""
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
