from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from senet_convert.converter.report import page

from . import pages
from .pages import HOSTILE, Report, bare, failed, hostile, large, parse, recognised, unchecked, with_reference

KINDS = (dict, failed, unchecked, hostile, recognised, with_reference, large, bare)


@pytest.fixture
def report() -> Report:
    return pages.report()


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
        widths = set()
        for row in table.all("tr"):
            widths.add(sum(int(cell.attributes.get("colspan", 1)) for cell in row.all("td") + row.all("th")))
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
    assert root.one("head").one("title").text == f"{HOSTILE}: conversion report"
    assert [item.text for item in root.one("div", "verdict").all("li")] == [HOSTILE] * 40


@pytest.mark.parametrize(
    ("kind", "word", "said"),
    [
        (
            dict,
            "Passed",
            "Each of the 3 engines stays within its budget on every blob that it gives, of 43 that were compared",
        ),
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


def test_an_unchecked_report_claims_nothing(report: Report) -> None:
    root = parse(page.render(unchecked(report)))
    assert not root.all("svg")
    assert "What was checked" not in root.text
    assert "within its budget" not in root.text
    heads = [head.text for head in root.all("section")[-1].one("thead").all("th")]
    assert heads == ["No.", "Layer", "Type", "Shape", "Parameters", "Statistics", "MACs"]


def test_the_reference_is_held_against_its_own_budget(report: Report) -> None:
    plain = copy.deepcopy(report)
    root = parse(page.render(with_reference(report)))
    assert "of 5.0e-5" in root.all("section")[-1].text
    assert "it is allowed 5.0e-5 at least" in root.text
    assert "where that is more; the reference, to within 5.0e-5 at least. Every weight" in root.text
    assert "where that is more. Every weight" in parse(page.render(plain)).text
    picture = next(svg for svg in root.all("svg") if "aria-label" in svg.attributes)
    assert len(picture.all("path", "budget")) == 2
    assert "budget 5.0e-5, 60 % of it" in picture.text


def test_a_release_is_shown_with_what_was_published(report: Report) -> None:
    text = parse(page.render(recognised(report))).text
    assert "top-1 22.37 %, top-5 6.30 %" in text
    assert "(published: 74,514, the same)" in text
    other = recognised(report)
    other["release"]["published_learnable_parameters"] += 1
    assert "(published: 74,515)" in parse(page.render(other)).text
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
        "blue, green, red",
        "bilinear, no antialiasing",
        "batch×3×32×32",
        f"report version {report['report_version']}",
        f"senet-convert {report['tool']['version']}",
        report["created"][:10],
        "No layer and no input was left out.",
    ):
        assert wanted in text


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"color": "rgb", "resample": "pil"}, ["red, green, blue", "shorter side to 36 pixels, bilinear, antialiased"]),
        ({"channels": 1, "mean": [], "resize": None}, ["grey", "none is stated", "whatever the aspect"]),
    ],
)
def test_the_preprocessing_is_put_into_words(report: Report, changed: Report, said: list[str]) -> None:
    report["preprocess"] |= changed
    text = parse(page.render(report)).text
    assert [words for words in said if words not in text] == []


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


def test_the_template_is_part_of_the_package() -> None:
    assert (Path(page.__file__).parent / "page.html").is_file()


@pytest.mark.parametrize(
    ("share", "over", "said"), [(1.0, False, "100 %"), (1.2, True, "120 %"), (None, True, "over budget")]
)
def test_the_worst_blob_is_marked_where_it_is_over_its_budget(
    report: Report, share: float | None, over: bool, said: str
) -> None:
    report["check"]["worst"]["onnxruntime"] |= {"of_budget": share}
    rows = {row.all("th")[0].text: row for row in parse(page.render(report)).all("section")[2].one("tbody").all("tr")}
    for name, row in rows.items():
        marked = [cell.text for cell in row.all("td", "over")]
        assert len(marked) == (2 if over and name.startswith("onnxruntime") else 0), name
        assert said in row.text or not name.startswith("onnxruntime")


def test_only_a_net_with_batchnorm_has_its_factor_explained(report: Report) -> None:
    said = parse(page.render(report)).text
    for words in ("The scale factor of a BatchNorm is merged", "BatchNorm's mean and variance are stored"):
        assert words in said
    report["layers"] = [layer for layer in report["layers"] if layer["type"] != "BatchNorm"]
    assert "BatchNorm's" not in parse(page.render(report)).text
    assert "scale factor" not in parse(page.render(report)).text


def test_the_first_section_is_for_the_record(report: Report) -> None:
    text = (
        parse(page.render(report | {"command": "senet-convert convert a.caffemodel --resize 36"}))
        .all("section")[0]
        .text
    )
    for words in (
        "SE-ResNet-Digits.caffemodel, deploy.prototxt → model.onnx, model.safetensors. Compared: ",
        "senet-convert convert a.caffemodel --resize 36",
        f"onnxruntime {report['environment']['onnxruntime']}",
        "execution on a GPU was not measured",
        "assumed are mean, scale, color, resample; see Preprocessing",
        "Signature",
    ):
        assert words in text
    tuned = report | {"tuned_from": {"bundle": "before"}}
    assert "The weights were tuned from those of before" in parse(page.render(tuned)).all("section")[0].text
    assert "Nothing was compared (--no-check)" in parse(page.render(unchecked(report))).all("section")[0].text


def test_many_of_a_kind_that_were_left_out_are_one_line(report: Report) -> None:
    splits = [{"name": f"split{k}", "type": "Split", "reason": "a copy"} for k in range(20)]
    report["dropped"] = [*splits, {"name": "drop", "type": "Dropout", "reason": "nothing"}]
    (section,) = [one for one in parse(page.render(report)).all("section") if one.attributes["id"] == "remarks"]
    rows = section.one("tbody").all("tr")
    assert [row.one("th").text.startswith("20 layers") for row in rows] == [True, False]
    assert "split19" in rows[0].one("details").text
