"""The plot of the report, as inline SVG: the error of every engine on every blob, in network order, and the budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from typing import Any

from .markup import Html, figure, plural, tag

Errors = Mapping[str, Any]  # one entry of layers[].errors

REFERENCE = "reference"  # the engine with a budget of its own
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 1080, 430, 52, 1068, 34, 376
LOWEST, HIGHEST = -12, 6  # decades: how far the axis is drawn out at most
LABELS, LETTERS, LETTER = 8, 19, 6.2  # names below the axis, and the width of a letter
# Marks around the point reached, for a radius of 1: circle, square, diamond, triangle. Colours are in page.html.
MARKS = (
    ((-1, 0), "a{r} {r} 0 1 0 {d} 0a{r} {r} 0 1 0-{d} 0z"),
    ((-0.9, -0.9), "h{s}v{s}h-{s}z"),
    ((0, -1.25), "l{t} {t}l-{t} {t}l-{t}-{t}z"),
    ((0, -1.2), "l{t} {d}h-{w}z"),
)
CROSS = ((-1.4, -1.4), "l{x} {x}m0-{x}l-{x} {x}")


@dataclass(frozen=True)
class Scale:
    """From a blob's place and an error to picture units."""

    blobs: int
    bottom: int  # the lowest decade
    top: int  # the highest

    def x(self, place: float) -> float:
        """Where a blob stands: 0 is the middle of the first."""
        return LEFT + (place + 0.5) * (RIGHT - LEFT) / self.blobs

    def y(self, error: float) -> float:
        """Where an error stands; what leaves the axis stands at its edge."""
        decade = log10(error) if error > 0 else self.bottom
        return BOTTOM + (min(max(decade, self.bottom), self.top) - self.bottom) * (TOP - BOTTOM) / (
            self.top - self.bottom
        )


def budget(errors: Errors, engine: str) -> float:
    """What an engine is allowed on a blob."""
    allowed: float | None = errors.get("reference_budget") if engine == REFERENCE else None
    return allowed if allowed is not None else float(errors["budget"])


def fitted(blobs: Sequence[Errors], engines: Sequence[str]) -> Scale:
    """The whole decades that hold every error and budget, within LOWEST and HIGHEST."""
    values = [error for errors in blobs for error in errors["engines"].values() if error]
    values += [budget(errors, engine) for errors in blobs for engine in engines]
    decades = [log10(value) for value in values if value > 0] or [float(LOWEST)]
    bottom = min(max(floor(min(decades)), LOWEST), HIGHEST - 1)
    return Scale(len(blobs), bottom, min(max(ceil(max(decades)), bottom + 1), HIGHEST))


def draw(blobs: Sequence[Errors], engines: Sequence[str]) -> Html:
    """The figure. `blobs` in network order, errors relative to each blob's largest value."""
    scale = fitted(blobs, engines)
    over = sum(len(errors["over_budget"]) for errors in blobs)
    said = f"{plural(over, 'point')} over budget" if over else "all of them within their budgets"
    picture = tag(
        "svg",
        _axes(scale, blobs),
        *(_budget_line(scale, blobs, engine) for engine in (None, REFERENCE) if engine is None or engine in engines),
        *(_series(scale, blobs, engines, k) for k in range(len(engines))),
        _divergence(scale, blobs),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=f"Error of {plural(len(engines), 'engine')} on {plural(len(blobs), 'blob')}, logarithmic; {said}",
    )
    caption = (
        "Each mark is the largest error of one engine on one blob, relative to the blob's largest value, on a "
        "logarithmic axis; the stepped line is the budget. "
        f"Marks on the bottom line are 1e{scale.bottom} or less. The table of layers has the same numbers."
    )
    scroll = tag("div", picture, class_="scroll", tabindex=0, role="region", aria_label="Plot of the errors")
    return tag("figure", _legend(blobs, engines), scroll, tag("figcaption", caption))


def _nonfinite(blobs: Sequence[Errors]) -> bool:
    return any(error is None for errors in blobs for error in errors["engines"].values())


def _axes(scale: Scale, blobs: Sequence[Errors]) -> Html:
    parts = [tag("text", "relative error", x=LEFT - 46, y=TOP - 18)]
    for decade in range(scale.bottom, scale.top + 1):
        y = round(scale.y(10.0**decade), 1)
        parts.append(tag("path", d=f"M{LEFT} {y}H{RIGHT}", class_="grid"))
        parts.append(tag("text", f"1e{decade}", x=LEFT - 6, y=y + 4, text_anchor="end"))
    if _nonfinite(blobs):
        parts.append(tag("text", "upper edge: not finite", x=LEFT + 60, y=TOP - 18))
    step = max(1, -(-len(blobs) // LABELS))
    for place in range(0, len(blobs), step):
        x = round(scale.x(place), 1)
        parts.append(tag("path", d=f"M{x} {BOTTOM}v5", class_="tick"))
        parts.append(tag("text", str(place + 1), x=x - 2, y=BOTTOM + 18))
        letters = min(LETTERS, int((WIDTH - x) / LETTER))
        name = tag("title", blobs[place]["blob"]), _short(blobs[place]["blob"], letters)
        parts.append(tag("text", *name, x=x - 2, y=BOTTOM + 33, class_="name"))
    parts.append(
        tag("text", "blobs, numbered in the order in which the network computes them", x=LEFT - 2, y=HEIGHT - 4)
    )
    return tag("g", *parts, class_="axes")


def _short(name: str, letters: int) -> str:
    return name if len(name) <= letters else f"{name[: letters - 1]}…"


def _budget_line(scale: Scale, blobs: Sequence[Errors], engine: str | None) -> Html:
    """One stepped line over all blobs: the common budget, or with `engine` its own."""
    steps: list[str] = []
    for place, errors in enumerate(blobs):
        y = round(scale.y(budget(errors, engine or "")), 1)
        steps.append(f"{'V' if steps else f'M{LEFT} '}{y}H{scale.x(place + 0.5):.1f}")
    return tag("path", d="".join(steps), class_="budget own" if engine else "budget")


def _series(scale: Scale, blobs: Sequence[Errors], engines: Sequence[str], k: int) -> Html:
    """The marks of one engine. Engines stand a little beside each other where there is room."""
    aside = (k - (len(engines) - 1) / 2) / (2 * len(engines))
    radius = 3.6 if len(blobs) <= 80 else 3.0 if len(blobs) <= 250 else 2.2
    marks = []
    for place, errors in enumerate(blobs):
        if engines[k] not in errors["engines"]:
            continue
        error = errors["engines"][engines[k]]
        x, y = scale.x(place + aside), TOP - 9 if error is None else scale.y(error)
        kind = (
            "point" + (" over" if engines[k] in errors["over_budget"] else "") + (" nonfinite" if error is None else "")
        )
        drawn = _mark(k, x, y, radius) if error is not None else _path(CROSS, x, y, radius)
        marks.append(tag("path", tag("title", _tooltip(place, len(blobs), errors, engines[k])), d=drawn, class_=kind))
    return tag("g", *marks, class_=f"engine e{k % len(MARKS)}")


def _mark(k: int, x: float, y: float, radius: float) -> str:
    return _path(MARKS[k % len(MARKS)], x, y, radius)


def _path(mark: tuple[tuple[float, float], str], x: float, y: float, radius: float) -> str:
    (dx, dy), outline = mark
    sizes = {"r": 1.0, "d": 2.0, "s": 1.8, "t": 1.25, "w": 2.5, "x": 2.8}
    relative = outline.format(**{key: f"{factor * radius:.3g}" for key, factor in sizes.items()})
    return f"M{x + dx * radius:.1f} {y + dy * radius:.1f}{relative}"


def _tooltip(place: int, blobs: int, errors: Errors, engine: str) -> str:
    error, allowed = errors["engines"][engine], budget(errors, engine)
    share = "" if error is None else f", {100 * error / allowed:.0f} % of it"
    over = "; over budget" if engine in errors["over_budget"] else ""
    return (
        f"{errors['blob']} ({place + 1} of {blobs})\n{engine}: {figure(error)}\nbudget {figure(allowed)}{share}{over}"
    )


def _divergence(scale: Scale, blobs: Sequence[Errors]) -> Html | None:
    """A line at the first blob that leaves its budget."""
    place = next((place for place, errors in enumerate(blobs) if errors["over_budget"]), None)
    if place is None:
        return None
    x, left = round(scale.x(place), 1), scale.x(place) > WIDTH / 2
    said, anchor = f"first over budget: {_short(blobs[place]['blob'], 40)}", "end" if left else "start"
    text = tag("text", said, x=x - 6 if left else x + 6, y=BOTTOM - 8, text_anchor=anchor)
    return tag("g", tag("path", d=f"M{x} {TOP - 14}V{BOTTOM}"), text, class_="divergence")


def _legend(blobs: Sequence[Errors], engines: Sequence[str]) -> Html:
    line = "M0 7H16"
    keys = [_key(engine, _mark(k, 8, 7, 4), "key", k) for k, engine in enumerate(engines)]
    keys.append(_key("budget", line, "budget"))
    if REFERENCE in engines:
        keys.append(_key(f"budget of {REFERENCE}", line, "budget own"))
    if any(errors["over_budget"] for errors in blobs):
        keys.append(_key("over budget", _mark(0, 8, 7, 4), "key over"))
    if _nonfinite(blobs):
        keys.append(_key("not finite", _path(CROSS, 8, 7, 3), "key over nonfinite"))
    return tag("ul", *keys, class_="legend")


def _key(said: str, outline: str, kind: str, k: int | None = None) -> Html:
    mark = tag("g", tag("path", d=outline, class_=kind), class_="engine" if k is None else f"engine e{k % len(MARKS)}")
    return tag("li", tag("svg", mark, viewBox="0 0 16 14", width=16, height=14, aria_hidden="true"), " ", said)
