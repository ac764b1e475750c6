"""Errors for the person who holds only the file: they name the file, the layer, the numbers, and what to do.

`ConvertError` is the one root class; the command line turns it into exit code 1 and one message. Work that can find
several faults collects them in `Problems` and raises once, with every one of them listed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from difflib import SequenceMatcher, get_close_matches
from typing import Any

SHOWN = 40  # a message lists at most this many problems; the count is always given
NEAR, NEAREST = 0.75, 0.85  # how alike two spellings are, of 1: to be asked about, and to be taken for each other
MESSAGE = "_param"
LONGEST = 64  # characters of a name that is looked up for its likes
ENDS = 10  # of a long list of names, so many at each end


class ConvertError(Exception):
    """Anything that the toolkit refuses, with a message written for the user."""


class ReadError(ConvertError):
    """A file is not what it should be: truncated, of another kind, not parsable."""


class GraphError(ConvertError):
    """A network is not valid, or holds what this version does not support."""


class WeightsError(GraphError):
    """The weights and the layers of a network do not match."""


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
        self._items: dict[str, dict[str, None]] = {}  # problem -> where it stands, '' for one that says so itself

    def add(self, problem: str, where: str = "") -> None:
        """One more problem; saying it twice lists it once, and of several layers in one line with their count."""
        self._items.setdefault(problem, {})[where] = None

    def __bool__(self) -> bool:
        return bool(self._items)

    def __iter__(self) -> Iterator[str]:
        for problem, places in self._items.items():
            first = next(iter(places))
            if len(places) > 1:
                names = [place.removeprefix("layer ") for place in places]
                yield f"{problem} ({len(names)} layers: {listed(names)})"
            else:
                yield f"{first}: {problem}" if first else problem

    def raise_as(self, kind: type[ConvertError], advice: str = "") -> None:
        """Raise `kind` with all problems when there are any; `advice` is a last line that says what to do."""
        if not self._items:
            return
        items = list(self)
        if len(items) == 1:
            lines = [f"{self.where}: {items[0]}"]
        else:
            lines = [f"{self.where}: {len(items)} problems", *(f"  - {item}" for item in items[:SHOWN])]
            if len(items) > SHOWN:
                lines.append(f"  ... and {len(items) - SHOWN} more")
        if advice:
            lines.append(advice)
        raise kind("\n".join(lines))


def each(works: Iterable[Callable[[], Any]]) -> list[Any]:
    """What each of the works gives. The ConvertErrors of those that fail are raised as one, of the first one's kind."""
    found: list[Any] = []
    faults: list[ConvertError] = []
    for work in works:
        try:
            found.append(work())
        except ConvertError as fault:
            faults.append(fault)
    if len(faults) == 1:
        raise faults[0]
    if faults:
        lines = [str(fault) for fault in faults[:SHOWN]]
        if len(faults) > SHOWN:
            lines.append(f"... and {len(faults) - SHOWN} more")
        raise type(faults[0])("\n".join(lines))
    return found


def listed(names: list[str], between: str = ", ") -> str:
    """'a, b, c', of a long list its two ends with a count of what was left out: for lists inside a message."""
    left_out = len(names) - 2 * ENDS
    shown = names if left_out < 1 else [*names[:ENDS], f"... {left_out} more ...", *names[-ENDS:]]
    return between.join(shown)


def near(name: str, known: Iterable[str], alike: float = NEAR) -> list[str]:
    """The names that are spelt much like this one, the most alike first; small and capital letters are alike.

    It takes a few microseconds for each known name: whoever asks for names out of a file asks at most SHOWN times.
    """
    if len(name) > LONGEST:
        return []
    stem, end = name.removesuffix(MESSAGE), name.endswith(MESSAGE)  # which half of all names of messages share
    stems = {one.removesuffix(MESSAGE).lower(): one for one in known if one.endswith(MESSAGE) == end}
    return [stems[one] for one in get_close_matches(stem.lower(), stems, n=3, cutoff=alike)]


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The one name that this is a misspelling of; None where none is that alike, or two are equally."""
    found = near(name, known, NEAREST)
    alike = [SequenceMatcher(None, one.lower(), name.lower()).ratio() for one in found]
    return found[0] if len(alike) == 1 or (alike and alike[0] > alike[1]) else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """ "; did you mean 'a' or 'b'?", '' where nothing is spelt alike."""
    found = [f"'{one}'" for one in near(name, known)]
    return f"; did you mean {' or '.join(found)}?" if found else ""
