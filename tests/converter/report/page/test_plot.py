from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from senet_convert.converter.report import page
from senet_convert.converter.report.page import plot

from . import pages
from .pages import Element, Report, entries, failed, large, parse, with_reference


@pytest.fixture
def report() -> Report:
    return pages.report()


def y_of(point: Element) -> float:
    return float(point.attributes["d"].split()[1].split("a")[0].split("l")[0].split("h")[0])


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


def test_the_axis_is_logarithmic_and_clips() -> None:
    scale = plot.Scale(blobs=3, bottom=-8, top=-3)
    assert scale.y(1e-3) == pytest.approx(plot.TOP)
    assert scale.y(1e-8) == pytest.approx(plot.BOTTOM)
    assert scale.y(1e-5) - scale.y(1e-4) == pytest.approx(scale.y(1e-7) - scale.y(1e-6))
    assert (scale.y(0.0), scale.y(7.0)) == (scale.y(1e-9), scale.y(1e-3))
    assert plot.LEFT < scale.x(0) < scale.x(2) < plot.RIGHT


@pytest.mark.parametrize(
    ("error", "lowest", "highest"),
    [
        (1e-6, "1e-6", "1e-5"),
        (3e-9, "1e-9", "1e-5"),
        (0.5, "1e-6", "1e0"),
        (3e30, "1e-6", "1e6"),
        (0.0, "1e-6", "1e-5"),
    ],
)
def test_the_axis_fits_the_errors_and_budgets(error: float, lowest: str, highest: str) -> None:
    errors = {"blob": "b", "budget": 2e-6, "engines": {"onnxruntime": error}, "over_budget": []}
    axes = parse(plot.draw([errors], ["onnxruntime"])).one("g", "axes")
    ticks = [text.text for text in axes.all("text") if text.attributes.get("text-anchor") == "end"]
    assert (ticks[0], ticks[-1]) == (lowest, highest)


def test_the_budget_steps_from_blob_to_blob() -> None:
    blobs = [
        {"blob": str(budget), "budget": budget, "engines": {"onnxruntime": 1e-7}, "over_budget": []}
        for budget in (1e-6, 1e-5, 1e-4)
    ]
    line = parse(plot.draw(blobs, ["onnxruntime"])).one("figure").one("div").one("path", "budget").attributes["d"]
    scale = plot.Scale(3, -7, -4)
    heights = [float(y) for y in re.findall(r"(?:^M\d+ |V)([\d.]+)H", line)]
    assert heights == [pytest.approx(scale.y(budget), abs=0.06) for budget in (1e-6, 1e-5, 1e-4)]
    assert line.endswith(f"H{float(plot.RIGHT)}")
