from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from senet_convert.cli import main
from senet_convert.proto import read_caffemodel
from tests.nets import SE_NET, write
from tests.paths import GOLDEN


def inspect(*args: object) -> Any:
    done = CliRunner().invoke(main, ["inspect", *map(str, args), "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_layers_shapes_parameters_and_macs(tmp_path: Path) -> None:
    found = inspect(write(tmp_path).caffemodel)
    rows = {row["name"]: row for row in found["layer_table"]}
    assert rows["conv"]["learnable_parameters"] == 6 * 3 * 3 * 3
    assert rows["conv"]["macs"] == 2 * 6 * 12 * 10 * 27
    assert rows["bn"]["statistics"] == 13
    assert rows["scale"]["learnable_parameters"] == 12
    assert rows["fc"]["shapes"] == [[2, 7]]
    assert found["learnable_parameters"] == 162 + 12 + 42 + 7 * 180 + 7
    assert found["macs_per_image"] == 6 * 12 * 10 * 27 + 36 + 7 * 180
    assert [item["name"] for item in found["dropped"]] == ["drop"]


@pytest.mark.parametrize("name", ["deploy.prototxt", "net.caffemodel"])
def test_prototxt_and_caffemodel_say_the_same(name: str) -> None:
    found = inspect(GOLDEN / "se_resnet" / name)
    assert found["family"] == "SE-ResNet"
    assert found["layers"] == 86
    layers = read_caffemodel(GOLDEN / "se_resnet" / "net.caffemodel").layers
    held = {
        kind: sum(b.data.size for layer in layers if (layer.type == "BatchNorm") == kind for b in layer.blobs)
        for kind in (True, False)
    }
    assert found["learnable_parameters"] == held[False]
    assert found["batchnorm_statistics"] == held[True]


def test_the_table_goes_to_stdout(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["inspect", str(write(tmp_path).caffemodel)])
    assert done.exit_code == 0
    assert "Convolution" in done.stdout
    assert "1,260" not in done.stderr


def test_what_is_wrong_with_both_files_is_told(tmp_path: Path) -> None:
    files = write(tmp_path)
    files.prototxt.write_text("layer {")
    files.caffemodel.write_bytes(b"")
    args = ["inspect", str(files.caffemodel), "--prototxt", str(files.prototxt)]
    done = CliRunner().invoke(main, args)
    assert done.exit_code == 1
    for words in (f"{files.caffemodel}: the file is empty", f"{files.prototxt}:1:8: "):
        assert words in done.stderr


def test_files_that_are_neither_are_refused(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("<html>no</html>")
    (tmp_path / "zeros").write_bytes(bytes(64))
    for name in ("page.html", "zeros"):
        done = CliRunner().invoke(main, ["inspect", str(tmp_path / name)])
        assert done.exit_code == 1
        assert name in done.stderr


def test_it_looks_at_the_network_that_would_be_converted(tmp_path: Path) -> None:
    """With the prototxt beside a caffemodel, unless another one is given or the caffemodel itself; and names it."""
    files = write(tmp_path)
    files.prototxt.write_text(SE_NET.split('layer { name: "prob"')[0])
    assert (inspect(files.caffemodel)["layers"], inspect(files.caffemodel)["prototxt"]) == (10, "net.prototxt")
    own = inspect(files.caffemodel, "--prototxt", files.caffemodel)
    assert (own["layers"], own["prototxt"]) == (11, None)
    assert inspect(files.prototxt)["prototxt"] is None
    assert "net.caffemodel with net.prototxt" in CliRunner().invoke(main, ["inspect", str(files.caffemodel)]).stdout


def test_a_text_file_is_no_weights(tmp_path: Path) -> None:
    """As for the conversion: with --prototxt, the file is the caffemodel."""
    files = write(tmp_path)
    done = CliRunner().invoke(main, ["inspect", str(files.prototxt), "--prototxt", str(files.prototxt)])
    assert done.exit_code == 1
    assert "not a caffemodel: it is a text file" in done.stderr
