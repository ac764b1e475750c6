"""The first page, for whoever vouches for the conversion: what it covers, what it does not, and a place to sign."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .markup import Html, code, facts, folding, join, tag

Report = Mapping[str, Any]

SIGN = ("Name", "Date", "Signature")


def record(report: Report) -> Html:
    """Scope, command line, versions, limits, and lines to sign on."""
    tool = f"{report['tool']['name']} {report['tool']['version']}"
    environment = ", ".join(f"{key} {value}" for key, value in report["environment"].items())
    command = report.get("command")
    pairs = (
        ("Scope", _scope(report)),
        ("Command line", code(command) if command else None),
        ("Versions", f"{tool}; {environment}"),
    )
    limits = tag("ul", *(tag("li", limit) for limit in _limits(report)))
    lines = tag("div", *(tag("p", tag("span", name), class_="line") for name in SIGN), class_="sign")
    return join((facts(pairs), tag("h3", "What this report does not say"), limits, tag("h3", "Checked by"), lines))


def _scope(report: Report) -> Html:
    read = join(_separated([code(source["name"]) for source in report["sources"]]))
    written = ("model.onnx", "model.safetensors")
    made = join((read, " → ", join(_separated([code(name) for name in written]))))
    check, origin = report["check"], report.get("tuned_from")
    if check:
        compared = max((file["values"] for file in report["weights"]["files"]), default=0)
        said = f". Compared: {check['blobs']:,} blobs on {check['inputs']}, and {compared:,} weight values bit for bit"
    else:
        said = ". Nothing was compared (--no-check)"
    tuned = join((". The weights were tuned from those of ", code(origin["bundle"]))) if origin else None
    return join((made, said, tuned, "."))


def _limits(report: Report) -> list[str]:
    check, origins = report["check"], report.get("preprocess_origins")
    found = []
    if check:
        found.append(
            "Agreement was measured on the inputs named above, on this machine's processor, with the versions named "
            "above. Other inputs, versions and processors round in other ways, by amounts of the same order; execution "
            "on a GPU was not measured."
        )
    found.append(
        "How accurate the network is on real pictures is not measured here: senet-convert validate does that, on "
        "labelled pictures."
    )
    assumed = [one["value"] for one in origins["values"] if not one["known"]] if origins else []
    if assumed:
        found.append(
            f"The files do not state every step that pictures go through: assumed are {', '.join(assumed)}; see "
            "Preprocessing."
        )
    if report["verdict"] == "failed":
        found.append("The check failed: what is written here must not be relied on.")
    return found


def _separated(items: list[Html]) -> list[Html | str]:
    return [piece for item in items for piece in (", ", item)][1:]


def grouped(dropped: list[Mapping[str, str]], shown: int) -> list[tuple[Html, str, str]]:
    """(names, type, reason) of what was left out: of one type and reason more than `shown` make one line."""
    groups: dict[tuple[str, str], list[str]] = {}
    for item in dropped:
        groups.setdefault((item["type"], item["reason"]), []).append(item["name"])
    found: list[tuple[Html, str, str]] = []
    for (kind, reason), names in groups.items():
        if len(names) > shown:
            listed = tag("ul", *(tag("li", code(name)) for name in names))
            found.append((folding(f"{len(names):,} layers", listed), kind, reason))
        else:
            found += [(code(name), kind, reason) for name in names]
    return found
