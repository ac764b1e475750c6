"""The table of layers in the report: what each computes, and how far every engine is off where a blob is final."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .markup import Html, code, figure, join, plural, shape, table, tag, td
from .plot import REFERENCE, budget

Layer = Mapping[str, Any]
Errors = Mapping[str, Any]

HEAD = ("No.", "Layer", "Type", "Shape", "Parameters", "Statistics", "MACs")
CHECKED = ("Largest value", "Budget")


def anchor(number: int) -> str:
    """The id of a layer's row; layers count from 1."""
    return f"layer-{number}"


def anchors(layers: Sequence[Layer]) -> dict[str, str]:
    """Where the errors of each blob stand."""
    return {
        errors["blob"]: anchor(number) for number, layer in enumerate(layers, 1) for errors in layer.get("errors", ())
    }


def draw(layers: Sequence[Layer], network: Mapping[str, Any], engines: Sequence[str]) -> Html:
    """All layers in the order in which they run; without `engines` nothing was checked."""
    head = (*HEAD, *CHECKED, *engines) if engines else HEAD
    numbers = (0, 4, 5, 6, *range(len(HEAD), len(head)))
    rows = [line for number, layer in enumerate(layers, 1) for line in _rows(number, layer, engines)]
    caption = f"The {plural(len(layers), 'layer')} in the order in which they run"
    return table(caption, head, rows, numbers, _total(layers, network, len(head)))


def _rows(number: int, layer: Layer, engines: Sequence[str]) -> list[Html]:
    """A layer's row; of one that leaves several blobs, every further one has a row below."""
    entries: Sequence[Errors | None] = layer.get("errors") or [None]
    counts = (layer["learnable_parameters"], layer["statistics"], layer["macs"])
    first = tag(
        "tr",
        td(str(number), "n"),
        tag("th", code(layer["name"]), _gives(entries[0], layer["name"]), scope="row", class_="name"),
        td(layer["type"], data_label="Type"),
        td(join(tag("div", code(shape(dims))) for dims in layer["shapes"]), data_label="Shape"),
        *(td(_count(count), "n", data_label=name) for name, count in zip(HEAD[4:], counts, strict=True)),
        *_errors(entries[0], engines),
        id=anchor(number),
    )
    rest = (
        tag("tr", td(""), tag("th", _gives(entry), scope="row", class_="name"), blank, *_errors(entry, engines))
        for entry in entries[1:]
        for blank in (tag("td", colspan=len(HEAD) - 2),)
    )
    return [first, *rest]


def _gives(entry: Errors | None, layer: str = "") -> Html | None:
    """The blob that the errors are those of, unless it is named like its layer."""
    if entry is None:
        return None
    left_out = entry["nonfinite_values"]
    note = f"{plural(left_out, 'value')} not finite in float64, left out" if left_out else None
    name = None if entry["blob"] == layer else tag("small", "blob ", code(entry["blob"]))
    return join((name, tag("small", note) if note else None))


def _errors(entry: Errors | None, engines: Sequence[str]) -> list[Html]:
    if not engines:
        return []
    if entry is None:
        return [tag("td", colspan=len(CHECKED) + len(engines))]
    largest = "not finite" if entry["largest_value"] is None else f"{entry['largest_value']:.4g}"
    known = (
        td(text, "n", data_label=name) for name, text in zip(CHECKED, (largest, figure(entry["budget"])), strict=True)
    )
    return [*known, *(_error(entry, engine) for engine in engines)]


def _error(entry: Errors, engine: str) -> Html:
    """An engine's error; the bar below it is its share of the budget."""
    if engine not in entry["engines"]:
        return td("–", "n", title="this engine does not give the blob", data_label=engine)
    error, allowed = entry["engines"][engine], budget(entry, engine)
    own = tag("small", f"of {figure(allowed)}") if engine == REFERENCE else None
    if engine in entry["over_budget"]:
        return td(join((tag("strong", figure(error)), tag("small", "over budget"), own)), "n over", data_label=engine)
    share = 100 * (error or 0) / allowed
    bar, said = f"--share:{share:.0f}%", f"{share:.0f} % of the budget"
    return td(join((figure(error), own)), "n share", style=bar, title=said, data_label=engine)


def _count(number: int) -> str:
    return f"{number:,}" if number else ""


def _total(layers: Sequence[Layer], network: Mapping[str, Any], columns: int) -> Html:
    sums = (network["learnable_parameters"], network["batchnorm_statistics"], sum(layer["macs"] for layer in layers))
    rest = columns - len(HEAD)
    cells = (td(_count(number), "n") for number in sums)
    return tag("tr", tag("th", "Sum", scope="row", colspan=4), *cells, tag("td", colspan=rest) if rest else None)
