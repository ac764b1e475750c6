"""report.html: the report for a person, as one file that needs nothing else.

The verdict stands here, the sections below it in sections.py, the style in page.html. Everything comes from the
report alone, so a page can be made again from any report.json.
"""

from __future__ import annotations

from importlib import resources
from string import Template

from . import layer_table
from .markup import Html, facts, join, listing, plural, tag
from .sections import SECTIONS, Report

VERDICTS = {"passed": ("✓", "Passed"), "failed": ("✗", "Failed"), "unchecked": ("?", "Not checked")}  # mark, word
FAULTS = 12  # how many are shown before the rest is folded away


def render(report: Report) -> str:
    """The page. Names and texts in the report may hold any characters."""
    made = [(key, heading, section(report)) for key, heading, section in SECTIONS]
    given = [(key, heading, content) for key, heading, content in made if content]
    template = resources.files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    return Template(template).substitute(
        title=join((_name(report), ": conversion report")),
        header=_header(report),
        nav=tag("ul", *(tag("li", tag("a", heading, href=f"#{key}")) for key, heading, _ in given)),
        sections=join(
            tag("section", tag("h2", heading, id=f"{key}-heading"), content, id=key, aria_labelledby=f"{key}-heading")
            for key, heading, content in given
        ),
        footer=_made(report),
    )


def _name(report: Report) -> str:
    return str(report["network"]["name"]) or "Network without a name"


def _made(report: Report) -> Html:
    """Which tool wrote the report, and when."""
    day, _, time = report["created"].partition("T")
    tool, version = report["tool"]["name"], report["report_version"]
    when = tag("time", f"{day} {time.removesuffix('+00:00')} UTC", datetime=report["created"])
    return tag("p", f"{tool} {report['tool']['version']}, report version {version}, ", when)


def _header(report: Report) -> Html:
    """Title, verdict and the numbers that come first."""
    mark, word = VERDICTS[report["verdict"]]
    verdict = tag(
        "div",
        tag("p", tag("span", mark, aria_hidden="true", class_="mark"), word, class_="word"),
        tag("p", _statement(report)),
        _divergence(report),
        listing(report["faults"], "All other faults", FAULTS) if report["faults"] else None,
        class_=f"verdict {report['verdict']}",
        role="group",
        aria_label="Verdict",
    )
    title = tag("h1", _name(report), tag("small", "Conversion from Caffe to PyTorch and ONNX"))
    return join((title, _made(report), verdict, _numbers(report)))


def _statement(report: Report) -> str:
    check = report["check"]
    if check is None:
        return (
            "The check was left out (--no-check). This page says what was converted; whether the files written compute "
            "what the Caffe network computes has not been tested."
        )
    if report["faults"]:
        found = plural(len(report["faults"]), "fault")
        return (
            f"{found} found. The files were kept only because --keep-going was given; do not put them to use before "
            "the cause is known."
        )
    return (
        f"Each of the {len(check['engines'])} engines stays within its budget on every blob that it gives, of "
        f"{check['blobs']:,} that were compared, and every weight in the files written is that of the caffemodel, "
        "byte for byte."
    )


def _divergence(report: Report) -> Html | None:
    first = report["check"] and report["check"]["first_divergence"]
    if not first:
        return None
    over = (
        layer_table.anchor(number)
        for number, layer in enumerate(report["layers"], 1)
        if any(errors["over_budget"] for errors in layer.get("errors", ()))
    )
    where = next(over, None)
    link = tag("a", "see it in the table of layers", href=f"#{where}") if where else None
    return tag("p", tag("strong", "First divergence: "), first, join((" (", link, ")")) if link else None)


def _numbers(report: Report) -> Html:
    """The figures that a reader looks for first."""
    network, check = report["network"], report["check"]
    shares = [worst["of_budget"] for worst in check["worst"].values() if worst] if check else []
    most = "not finite" if None in shares else f"{100 * max(shares):.0f} %" if shares else None
    compared = max((file["values"] for file in report["weights"]["files"]), default=0)
    return facts(
        (
            ("Blobs checked", f"{check['blobs']:,}" if check else "none"),
            ("Largest share of a budget", most),
            ("Weights compared", f"{compared:,}" if compared else "none"),
            ("Layers", f"{network['layers']:,}"),
            ("Learnable parameters", f"{network['learnable_parameters']:,}"),
            ("GFLOPs per image", f"{network['gflops_2xmac_per_image']:,}"),
        )
    )
