"""HTML as nested values: text is escaped when it is put into an element, so nothing can be forgotten."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


class Html(str):
    """Text that is markup already; only `tag` and `join` make it."""


def tag(name: str, *children: str | None, **attributes: str | float | None) -> Html:
    """One element. Plain text among the children is escaped; what is None is left out.

    Attributes are written as Python names: class_ gives class, aria_label gives aria-label.
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{given}>{join(children)}</{name}>")


def join(children: Iterable[str | None]) -> Html:
    """Pieces one after the other, as `tag` takes them."""
    return Html("".join(child if isinstance(child, Html) else escape(child) for child in children if child is not None))


def code(text: str) -> Html:
    """A name from a file, as it stands there."""
    return tag("code", text)


def td(text: str | None, kind: str | None = None, **attributes: str | float | None) -> Html:
    """One cell of a table; the kind 'n' is for numbers."""
    return tag("td", text, class_=kind, **attributes)


def row(head: str, *cells: Html) -> Html:
    """A row of a table under its own heading."""
    return tag("tr", tag("th", head, scope="row"), *cells)


def table(
    caption: str, head: Sequence[str], rows: Iterable[Html], numbers: Sequence[int] = (), foot: Html | None = None
) -> Html:
    """A table that scrolls by itself on a narrow screen. `numbers` are the columns that hold numbers."""
    heads = (tag("th", text, scope="col", class_="n" if i in numbers else None) for i, text in enumerate(head))
    parts = (
        tag("caption", caption),
        tag("thead", tag("tr", *heads)),
        tag("tbody", *rows),
        tag("tfoot", foot) if foot else None,
    )
    return tag("div", tag("table", *parts), class_="scroll", role="region", aria_label=caption, tabindex=0)


def facts(pairs: Iterable[tuple[str, str | None]]) -> Html:
    """Terms with what is to be said of each; those of which nothing is known are left out."""
    return tag("dl", *(tag("div", tag("dt", term), tag("dd", said)) for term, said in pairs if said is not None))


def listing(items: Sequence[Html | str], summary: str, shown: int) -> Html:
    """A list; what exceeds `shown` items is folded away."""
    made = [tag("li", item) for item in items]
    folded = folding(summary, tag("ul", *made[shown:])) if len(made) > shown else None
    return join((tag("ul", *made[:shown]), folded))


def folding(summary: str, *content: Html) -> Html:
    """What a reader may open."""
    return tag("details", tag("summary", summary), *content)


def figure(value: float | None) -> str:
    """An error in two digits, as 4.1e-7; None stands for what is not finite."""
    if value is None:
        return "not finite"
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa}e{int(exponent)}" if value else "0"


def shape(dims: Sequence[int | str | None]) -> str:
    """The shape of a blob, as 1×64×56×56."""
    return "×".join("?" if dim is None else str(dim) for dim in dims) or "scalar"


def plural(number: int, noun: str) -> str:
    """A number with its noun."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
