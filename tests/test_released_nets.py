"""The seven released networks, where their prototxts lie beside the project; they are not ours to ship."""

from __future__ import annotations

import pytest

from senet_convert.converter import families
from senet_convert.converter.graph.build import build
from senet_convert.converter.report.released import Release, releases
from senet_convert.converter.report.report import describe
from senet_convert.proto import read_prototxt
from tests.paths import SHARED

PROTOTXTS = SHARED / "released"


@pytest.mark.skipif(not PROTOTXTS.is_dir(), reason="the released prototxts are not at hand")
@pytest.mark.parametrize("release", releases(), ids=lambda release: release.name)
def test_parameters_and_flops_are_the_published_ones(release: Release) -> None:
    graph = build(read_prototxt(PROTOTXTS / f"{release.name}.prototxt"), None)
    found = describe(graph)
    assert found["learnable_parameters"] == release.learnable_parameters
    if release.gflops is not None:
        assert found["gflops_2xmac_per_image"] == pytest.approx(release.gflops, rel=0.02)
    assert families.match(graph) is not None
