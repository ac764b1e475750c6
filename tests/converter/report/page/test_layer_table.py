from __future__ import annotations

import pytest

from senet_convert.converter.report import page
from senet_convert.converter.report.page.markup import figure, shape

from . import pages
from .pages import Element, Report, entries, failed, parse


@pytest.fixture
def report() -> Report:
    return pages.report()


def heads(layers: Element) -> list[str]:
    return [head.text for head in layers.one("thead").all("th")][9:]


def test_cells_over_budget_are_marked(report: Report) -> None:
    wanted = failed(report)
    layers = parse(page.render(wanted)).all("section")[-1]
    assert [cell.text for cell in layers.all("td", "over")] == ["5.0e-1over budget", "not finiteover budget"]
    assert len(layers.all("td", "share")) == sum(len(errors["engines"]) for errors in entries(wanted)) - 2


def test_the_table_of_layers_has_the_numbers_of_the_report(report: Report) -> None:
    layers = parse(page.render(report)).all("section")[-1]
    rows = layers.one("tbody").all("tr")
    for number, (row, layer) in enumerate(zip(rows, report["layers"], strict=True), 1):
        cells = [cell.text for cell in row.all("td")]
        counts = [f"{layer[key]:,}" if layer[key] else "" for key in ("learnable_parameters", "statistics", "macs")]
        assert cells[:6] == [str(number), layer["type"], shape(layer["shapes"][0]), *counts]
        for errors in layer["errors"]:
            given = (figure(errors["engines"][name]) if name in errors["engines"] else "–" for name in heads(layers))
            assert cells[7:] == [figure(errors["budget"]), *given]


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
