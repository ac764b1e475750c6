from __future__ import annotations

import pytest

from senet_convert.deploy.images.origins import KEY, Origin, Origins, described
from senet_convert.deploy.images.preprocess import Preprocess
from senet_convert.errors import ConvertError

ORIGINS = Origins(
    {"mean": Origin(False, "nothing"), "scale": Origin(False, "usual"), "resize": Origin(True, "a release")}
)


def test_they_survive_the_metadata() -> None:
    offered = Origins(ORIGINS.values, ("--mean 1",))
    assert Origins.from_metadata({KEY: offered.to_json()}) == offered
    assert Origins.from_metadata({}) is None
    for text in ("no JSON", "[]", '{"values": [1], "offers": []}'):
        with pytest.raises(ConvertError, match="not readable"):
            Origins.from_metadata({KEY: text})


def test_what_matters_is_warned_of() -> None:
    assert ORIGINS.assumed == ("mean", "scale")
    told = ORIGINS.warning(Preprocess((2, 3))) or ""
    assert "no mean is subtracted (nothing)" in told
    assert "--mean" in told
    assert "scale" not in told
    assert ORIGINS.said(["mean"]).warning(Preprocess((2, 3))) is None


def test_one_line_says_what_pictures_go_through() -> None:
    preprocess = Preprocess((2, 3), 4, (1.5,), 0.5)
    assert described(preprocess, ORIGINS) == (
        "pictures are cropped to 2x3 from a shorter side of 4; the mean 1.5 is subtracted; scale 0.5; BGR; resized as "
        "by OpenCV (assumed: mean, scale)"
    )
    assert described(preprocess, None).endswith("(where from is not recorded)")
    assert described(Preprocess((2, 3)), ORIGINS.said(["mean", "scale"])).endswith("(all known)")
