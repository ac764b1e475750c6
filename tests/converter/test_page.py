from __future__ import annotations

import copy
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from senet_convert import bundle, demo
from senet_convert.converter import convert, page, plot
from senet_convert.converter.markup import figure, plural, shape, tag

VOID = {"meta", "br", "wbr", "img", "link", "input", "hr"}
HOSTILE = "</code><script>alert('x')</script>&amp;\"><img src=x onerror=y> größe 层 $title"
Report = dict[str, Any]


class Element:
    """One element of a parsed page."""

    def __init__(self, name: str, attributes: dict[str, str], parent: Element | None) -> None:
        self.name, self.attributes, self.parent = name, attributes, parent
        self.children: list[Element | str] = []

    @property
    def classes(self) -> list[str]:
        return self.attributes.get("class", "").split()

    @property
    def text(self) -> str:
        return "".join(child if isinstance(child, str) else child.text for child in self.children)

    def all(self, name: str = "", kind: str = "") -> list[Element]:
        """The elements below, of a name and a class, in the order of the page."""
        found = []
        for child in (child for child in self.children if isinstance(child, Element)):
            if name in ("", child.name) and (not kind or kind in child.classes):
                found.append(child)
            found += child.all(name, kind)
        return found

    def one(self, name: str = "", kind: str = "") -> Element:
        (found,) = self.all(name, kind)
        return found


class Parser(HTMLParser):
    """Builds the tree, and fails where a tag is not closed in its turn."""

    def __init__(self) -> None:
        super().__init__()
        self.root = self.at = Element("", {}, None)

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        assert len({key for key, _ in attributes}) == len(attributes), f"<{name}> has an attribute twice"
        element = Element(name, {key: value or "" for key, value in attributes}, self.at)
        self.at.children.append(element)
        if name not in VOID:
            self.at = element

    def handle_endtag(self, name: str) -> None:
        assert self.at.name == name, f"</{name}> closes <{self.at.name}>"
        assert self.at.parent is not None
        self.at = self.at.parent

    def handle_data(self, data: str) -> None:
        self.at.children.append(data)


def parse(text: str) -> Element:
    parser = Parser()
    parser.feed(text)
    parser.close()
    assert parser.at is parser.root, f"<{parser.at.name}> stays open"
    return parser.root


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("page") / "digits"
    with demo.files() as digits:
        wishes = convert.Wishes(labels=digits / "classes.txt", resize=demo.RESIZE)
        convert.convert(digits / f"{demo.NAME}.caffemodel", digits / "deploy.prototxt", folder, wishes, lambda _: None)
    assert (folder / bundle.PAGE).read_text(encoding="utf-8").startswith("<!doctype html>")
    return bundle.read_report(folder)


@pytest.fixture
def report(converted: Report) -> Report:
    return copy.deepcopy(converted)


def entries(report: Report) -> list[dict[str, Any]]:
    return [errors for layer in report["layers"] for errors in layer.get("errors", ())]


def failed(report: Report) -> Report:
    """onnxruntime leaves the budget on the third blob, and is not finite on the last."""
    third, last = entries(report)[2], entries(report)[-1]
    third["engines"]["onnxruntime"], last["engines"]["onnxruntime"] = 0.5, None
    third["over_budget"] = last["over_budget"] = ["onnxruntime"]
    report["check"]["worst"]["onnxruntime"] = {"blob": last["blob"], "error": None, "budget": 2e-6, "of_budget": None}
    report["check"]["first_divergence"] = f"layer 'x', blob '{third['blob']}' (onnxruntime)"
    return report | {"verdict": "failed", "faults": ["first fault", "second fault"]}


def unchecked(report: Report) -> Report:
    for layer in report["layers"]:
        del layer["errors"]
    return report | {"verdict": "unchecked", "check": None, "weights": report["weights"] | {"files": []}}


def hostile(report: Report) -> Report:
    """Every name and text that comes from a file is an attack."""
    for layer in report["layers"]:
        layer["name"] = layer["type"] = HOSTILE
        for errors in layer["errors"]:
            errors["blob"] = HOSTILE
    for worst in report["check"]["worst"].values():
        worst["blob"] = HOSTILE
    report["network"] |= {"name": HOSTILE, "architecture": HOSTILE, "family": HOSTILE}
    report["sources"][0]["name"] = report["onnx"]["inputs"][0]["name"] = HOSTILE
    report["check"] |= {"inputs": HOSTILE, "first_divergence": HOSTILE, "top5": {HOSTILE: [[0, 1, 2]]}}
    report["classes"] = {"order": HOSTILE, "labels": [HOSTILE] * 30}
    report["weights"]["unused_layers"] = [HOSTILE]
    report["dropped"] = [{"name": HOSTILE, "type": HOSTILE, "reason": HOSTILE}]
    report["environment"]["platform"] = HOSTILE
    return report | {"verdict": "failed", "faults": [HOSTILE] * 40, "warnings": [HOSTILE]}


def recognised(report: Report) -> Report:
    return report | {
        "release": {
            "name": "SE-ResNet-50",
            "published_top1_error": 22.37,
            "published_top5_error": 6.3,
            "published_gflops_2xmac": None,
            "published_learnable_parameters": report["network"]["learnable_parameters"],
        }
    }


def with_reference(report: Report) -> Report:
    report["check"]["engines"].append("reference")
    report["check"]["worst"]["reference"] = {"blob": "prob", "error": 3e-5, "budget": 5e-5, "of_budget": 0.6}
    entries(report)[-1]["engines"]["reference"] = 3e-5
    entries(report)[-1]["reference_budget"] = 5e-5
    return report


def large(report: Report) -> Report:
    report["layers"] = report["layers"] * 14
    return report


def bare(report: Report) -> Report:
    """A network of no known family, without names, pictures and labels, with a scalar output and all blobs given."""
    report["network"] |= {"name": "", "family": None}
    report["onnx"]["outputs"] = [{"name": f"blob{i}", "shape": [] if i else [None, 3]} for i in range(50)]
    report["classes"]["labels"] = []
    report["check"]["worst"]["onnxruntime"] = None
    return report | {"preprocess": None}


KINDS = (dict, failed, unchecked, hostile, recognised, with_reference, large, bare)


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_is_well_formed_and_accessible(report: Report, kind: Callable[[Report], Report]) -> None:
    root = parse(page.render(kind(report)))
    html = root.one("html")
    assert html.attributes["lang"] == "en"
    assert len(root.all("h1")) == 1
    ids = [element.attributes["id"] for element in root.all() if "id" in element.attributes]
    assert len(set(ids)) == len(ids)
    assert {link.attributes["href"].removeprefix("#") for link in root.all("a")} <= set(ids)
    for table in root.all("table"):
        assert table.one("caption").text
        assert all(head.attributes["scope"] in ("col", "row") for head in table.all("th"))
        widths = {sum(int(cell.attributes.get("colspan", 1)) for cell in row.all("td") + row.all("th"))
                  for row in table.all("tr")}  # fmt: skip
        assert len(widths) == 1, table.one("caption").text
    for cell in root.all("td") + root.all("th"):
        assert not cell.all("td") + cell.all("th")
    for picture in root.all("svg"):
        assert picture.attributes.get("aria-label") or picture.attributes["aria-hidden"] == "true"


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_needs_nothing_else_and_runs_nothing(report: Report, kind: Callable[[Report], Report]) -> None:
    text = page.render(kind(report))
    root = parse(text)
    assert not {element.name for element in root.all()} & {"script", "link", "img", "iframe", "object", "embed", "base"}
    for element in root.all():
        assert not [key for key in element.attributes if key == "src" or key.startswith("on")]
        assert element.attributes.get("href", "#").startswith("#")
    assert not re.search(r"url\(|@import|https?://", root.one("style").text)
    policy = next(meta for meta in root.all("meta") if "http-equiv" in meta.attributes)
    assert policy.attributes["content"].startswith("default-src 'none'")


def test_hostile_names_stand_there_as_they_are(report: Report) -> None:
    number = len(report["layers"])
    root = parse(page.render(hostile(report)))
    rows = root.one("main").all("section")[-1].one("tbody").all("tr")
    assert len(rows) == number
    assert all(row.one("th", "name").all("code")[0].text == HOSTILE for row in rows)
    assert root.one("title").text == f"{HOSTILE}: conversion report"
    assert [item.text for item in root.one("div", "verdict").all("li")] == [HOSTILE] * 40


@pytest.mark.parametrize(
    ("kind", "word", "said"),
    [
        (dict, "Passed", "Each of the 3 engines stays within its budget on each of the 43 blobs"),
        (failed, "Failed", "2 faults found."),
        (unchecked, "Not checked", "--no-check"),
    ],
)
def test_the_verdict_stands_at_the_top(report: Report, kind: Callable[[Report], Report], word: str, said: str) -> None:
    wanted = kind(report)
    verdict = parse(page.render(wanted)).one("header").one("div", "verdict")
    assert wanted["verdict"] in verdict.classes
    assert verdict.one("p", "word").text.endswith(word)
    assert said in verdict.text
    assert [item.text for item in verdict.all("li")] == wanted["faults"]


def test_the_first_divergence_leads_to_its_layer(report: Report) -> None:
    wanted = failed(report)
    root = parse(page.render(wanted))
    link = root.one("div", "verdict").one("a")
    (line,) = [row for row in root.all("tr") if f"#{row.attributes.get('id')}" == link.attributes["href"]]
    diverged = next(layer for layer in wanted["layers"] if any(errors["over_budget"] for errors in layer["errors"]))
    assert line.one("th", "name").all("code")[0].text == diverged["name"]
    assert wanted["check"]["first_divergence"] in root.one("div", "verdict").text


@pytest.mark.parametrize("kind", [dict, failed, with_reference, large])
def test_the_plot_has_one_point_for_each_engine_and_blob(report: Report, kind: Callable[[Report], Report]) -> None:
    wanted = kind(report)
    picture = next(svg for svg in parse(page.render(wanted)).all("svg") if "aria-label" in svg.attributes)
    tooltips = [point.one("title").text for point in picture.all("path", "point")]
    assert sorted(tooltips) == sorted(set(tooltips))
    assert len(tooltips) == sum(len(errors["engines"]) for errors in entries(wanted))
    for engine in wanted["check"]["engines"]:
        given = [errors["blob"] for errors in entries(wanted) if engine in errors["engines"]]
        shown = [tip.split(" (")[0] for tip in tooltips if tip.splitlines()[1].startswith(f"{engine}: ")]
        assert shown == given


def test_points_over_budget_are_marked(report: Report) -> None:
    wanted = failed(report)
    picture = next(svg for svg in parse(page.render(wanted)).all("svg") if "aria-label" in svg.attributes)
    over = [point.one("title").text for point in picture.all("path", "over")]
    assert [tip.splitlines()[1] for tip in over] == ["onnxruntime: 5.0e-1", "onnxruntime: not finite"]
    assert all(tip.endswith("over budget") for tip in over)
    (nonfinite,) = picture.all("path", "nonfinite")
    assert y_of(nonfinite) < plot.TOP
    assert "2 points over budget" in picture.attributes["aria-label"]
    assert picture.one("g", "divergence").text.endswith(entries(wanted)[2]["blob"])


def test_without_faults_nothing_is_marked(report: Report) -> None:
    root = parse(page.render(report))
    assert not root.all("", "over") + root.all("", "nonfinite") + root.all("", "divergence")


def test_cells_over_budget_are_marked(report: Report) -> None:
    wanted = failed(report)
    layers = parse(page.render(wanted)).all("section")[-1]
    assert [cell.text for cell in layers.all("td", "over")] == ["5.0e-1over budget", "not finiteover budget"]
    assert len(layers.all("td", "share")) == sum(len(errors["engines"]) for errors in entries(wanted)) - 2


def test_an_unchecked_report_claims_nothing(report: Report) -> None:
    root = parse(page.render(unchecked(report)))
    assert not root.all("svg")
    assert "What was checked" not in root.text
    assert "within its budget" not in root.text
    heads = [head.text for head in root.all("section")[-1].one("thead").all("th")]
    assert heads == ["No.", "Layer", "Type", "Shape", "Parameters", "Statistics", "MACs"]


def test_the_table_of_layers_has_the_numbers_of_the_report(report: Report) -> None:
    layers = parse(page.render(report)).all("section")[-1]
    rows = layers.one("tbody").all("tr")
    for number, (row, layer) in enumerate(zip(rows, report["layers"], strict=True), 1):
        cells = [cell.text for cell in row.all("td")]
        counts = [f"{layer[key]:,}" if layer[key] else "" for key in ("learnable_parameters", "statistics", "macs")]
        assert cells[:6] == [str(number), layer["type"], shape(layer["shapes"][0]), *counts]
        for errors in layer["errors"]:
            assert cells[7:] == [figure(errors["budget"]), *(figure(errors["engines"][e]) for e in heads(layers))]


def heads(layers: Element) -> list[str]:
    return [head.text for head in layers.one("thead").all("th")][9:]


def test_a_layer_with_several_final_blobs_has_a_row_for_each(report: Report) -> None:
    layer = next(layer for layer in report["layers"] if layer["errors"])
    layer["errors"] = [layer["errors"][0] | {"blob": f"half{i}", "nonfinite_values": i} for i in range(3)]
    rows = parse(page.render(report)).all("section")[-1].one("tbody").all("tr")
    assert len(rows) == len(report["layers"]) + 2
    at = report["layers"].index(layer)
    texts = [row.one("th", "name").text for row in rows[at : at + 3]]
    assert texts[0] == f"{layer['name']}blob half0"
    assert texts[1:] == [
        "blob half11 value not finite in float64, left out",
        "blob half22 values not finite in float64, left out",
    ]


def test_the_reference_is_held_against_its_own_budget(report: Report) -> None:
    root = parse(page.render(with_reference(report)))
    assert "of 5.0e-5" in root.all("section")[-1].text
    assert "it is allowed 5.0e-5 at least" in root.text
    picture = next(svg for svg in root.all("svg") if "aria-label" in svg.attributes)
    assert len(picture.all("path", "budget")) == 2
    assert "budget 5.0e-5, 60 % of it" in picture.text


def test_a_release_is_shown_with_what_was_published(report: Report) -> None:
    text = parse(page.render(recognised(report))).text
    assert "top-1 22.37 %, top-5 6.30 %" in text
    assert "(published: 74,514, the same)" in text
    assert "None of them is one of the released SE networks" in parse(page.render(report | {"release": None})).text


def test_what_an_auditor_looks_for_is_there(report: Report) -> None:
    text = " ".join(parse(page.render(report)).text.split())
    for source in report["sources"]:
        assert source["sha256"] in text
        assert f"{source['bytes']:,} bytes" in text
    for wanted in (
        *report["environment"].values(),
        *report["classes"]["labels"],
        "4 times the rounding error",
        "2.0e-6 of the blob's largest value",
        "shorter side to 36 pixels",
        "171, 86, 94",
        "batch×3×32×32",
        f"report version {report['report_version']}",
        f"senet-convert {report['tool']['version']}",
        report["created"][:10],
        "No layer and no input was left out.",
    ):
        assert wanted in text


@pytest.mark.parametrize(("labels", "folded"), [(10, False), (1000, True)])
def test_many_labels_are_folded_away(report: Report, labels: int, folded: bool) -> None:
    report["classes"]["labels"] = [f"class {i}" for i in range(labels)]
    root = parse(page.render(report))
    listed = root.one("ol", "labels")
    assert len(listed.all("li")) == labels
    assert listed.attributes["start"] == "0"
    assert any(listed in details.all() for details in root.all("details")) == folded


def test_the_page_is_small_for_a_large_network(report: Report) -> None:
    assert len(page.render(large(report)).encode()) < 1.5e6


def y_of(point: Element) -> float:
    return float(point.attributes["d"].split()[1].split("a")[0].split("l")[0].split("h")[0])


def test_the_axis_is_logarithmic_and_clips() -> None:
    scale = plot.Scale(blobs=3, top=-3)
    assert scale.y(1e-3) == pytest.approx(plot.TOP)
    assert scale.y(1e-8) == pytest.approx(plot.BOTTOM)
    assert scale.y(1e-5) - scale.y(1e-4) == pytest.approx(scale.y(1e-7) - scale.y(1e-6))
    assert (scale.y(0.0), scale.y(7.0)) == (scale.y(1e-9), scale.y(1e-3))
    assert plot.LEFT < scale.x(0) < scale.x(2) < plot.RIGHT


@pytest.mark.parametrize(("error", "highest"), [(1e-6, "1e-3"), (0.5, "1e0"), (3e30, "1e6")])
def test_the_axis_grows_with_the_errors(error: float, highest: str) -> None:
    errors = {"blob": "b", "budget": 2e-6, "engines": {"onnxruntime": error}, "over_budget": []}
    axes = parse(plot.draw([errors], ["onnxruntime"])).one("g", "axes")
    ticks = [text.text for text in axes.all("text") if text.attributes.get("text-anchor") == "end"]
    assert (ticks[0], ticks[-1]) == ("1e-8", highest)


def test_the_budget_steps_from_blob_to_blob() -> None:
    blobs = [
        {"blob": str(budget), "budget": budget, "engines": {"onnxruntime": 1e-7}, "over_budget": []}
        for budget in (1e-6, 1e-5, 1e-4)
    ]
    line = parse(plot.draw(blobs, ["onnxruntime"])).one("figure").one("div").one("path", "budget").attributes["d"]
    scale = plot.Scale(3, -3)
    heights = [float(y) for y in re.findall(r"(?:^M\d+ |V)([\d.]+)H", line)]
    assert heights == [pytest.approx(scale.y(budget), abs=0.06) for budget in (1e-6, 1e-5, 1e-4)]
    assert line.endswith(f"H{float(plot.RIGHT)}")


def test_text_is_escaped_and_markup_is_not() -> None:
    assert tag("p", "<&\"'>", tag("b", "x")) == "<p>&lt;&amp;&quot;&#x27;&gt;<b>x</b></p>"
    assert tag("a", None, class_="n", aria_label='"', id=None) == '<a class="n" aria-label="&quot;"></a>'


def test_numbers_as_text() -> None:
    assert [figure(value) for value in (None, 0.0, 4.06e-7, 2e-6, 0.5)] == [
        "not finite",
        "0",
        "4.1e-7",
        "2.0e-6",
        "5.0e-1",
    ]
    assert (shape([]), shape(["batch", 3, None])) == ("scalar", "batch×3×?")
    assert (plural(1, "blob"), plural(1200, "blob")) == ("1 blob", "1,200 blobs")


def test_the_template_is_part_of_the_package() -> None:
    assert (Path(page.__file__).parent / "page.html").is_file()
