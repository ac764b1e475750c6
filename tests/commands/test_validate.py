from __future__ import annotations

import csv
import json
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import helper
from pyarrow import parquet

from senet_convert.cli import main
from senet_convert.deploy.images.preprocess import Preprocess


def validate(*args: object) -> Result:
    return CliRunner().invoke(main, ["validate", *map(str, args)])


def on_digits(bundle: Path, digits: Path, *args: object) -> Result:
    return validate(bundle, digits / "images", "--labels", digits / "val.txt", *args)


def test_json(bundle: Path, digits: Path) -> None:
    done = on_digits(bundle, digits, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["images"], found["top1_error"], found["top5_error"], found["broken"]) == (500, 3.6, 0.2, 0)
    assert found["class_order"] == "as the labels given"
    assert len(found["per_class"]) == 10
    assert found["confusions"][0]["images"] == 3
    assert done.stderr.startswith(
        "preprocessing: pictures are cropped to 32x32 from a shorter side of 36; the mean 171"
    )


def test_table(bundle: Path, digits: Path) -> None:
    done = on_digits(bundle, digits, "--expect-top1", 3.6)
    assert done.exit_code == 0
    for words in ("3.60 %", "0.20 %", "as expected", "500 images", "commonest mistakes", "class order"):
        assert words in done.stdout
    assert "commonest mistakes" not in on_digits(bundle, digits, "--worst", 0).stdout


def test_a_folder_per_class(bundle: Path, digits: Path, tmp_path: Path) -> None:
    names = (digits / "classes.txt").read_text().split()
    for line in (digits / "val.txt").read_text().splitlines()[:40]:
        image, label = line.split()
        (tmp_path / names[int(label)]).mkdir(exist_ok=True)
        (tmp_path / names[int(label)] / image).write_bytes((digits / "images" / image).read_bytes())
    found = json.loads(validate(bundle, tmp_path, "--json").stdout)
    assert (found["images"], found["top1_wrong"]) == (40, 1)


def test_what_is_passed_over_is_told_once(bundle: Path, digits: Path, tmp_path: Path) -> None:
    data = (digits / "images" / "digits_val_00000001.png").read_bytes()
    for name in ("four/a.png", "four/._a.png", ".ipynb_checkpoints/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    done = validate(bundle, tmp_path)
    assert done.exit_code == 0, done.output
    assert done.stderr.endswith("note: passed over: 2 hidden or system files: 1 of ._*, 1 of .ipynb_checkpoints\n")
    assert validate(bundle, tmp_path, "--quiet").stderr == ""


def test_broken_images_are_told_and_counted(bundle: Path, digits: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes((digits / "images" / "digits_val_00000001.png").read_bytes())
    (tmp_path / "b.png").write_bytes(b"nonsense")
    (tmp_path / "val.txt").write_text("a.png 8\nb.png 7\nc.png 7\n")
    done = validate(bundle, tmp_path, "--labels", tmp_path / "val.txt", "--json")
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert (found["images"], found["broken"], found["top1_error"]) == (1, 2, 0)
    assert "warning: b.png: " in done.stderr
    assert "warning: c.png: listed, but not there" in done.stderr


def test_parts_resume_and_predictions(bundle: Path, digits: Path, tmp_path: Path) -> None:
    files = ("--resume", tmp_path / "journal", "--predictions", tmp_path / "p.csv")
    done = on_digits(bundle, digits, "--shard", "2/4", "--limit", 50, *files, "--json")
    assert json.loads(done.stdout)["images"] == 50
    again = json.loads(on_digits(bundle, digits, "--shard", "2/4", "--limit", 50, *files, "--json").stdout)
    assert again["images_per_second"] is None
    with (tmp_path / "p.csv").open(newline="") as file:
        assert len(list(csv.reader(file))) == 51
    other = on_digits(bundle, digits, *files)
    assert other.exit_code == 1
    assert "belongs to a run with other images" in other.stderr


def test_the_parts_are_the_whole(bundle: Path, digits: Path, tmp_path: Path) -> None:
    seen: list[str] = []
    for part in (1, 2, 3):
        done = on_digits(bundle, digits, "--shard", f"{part}/3", "--predictions", tmp_path / "p.csv", "--json")
        with (tmp_path / "p.csv").open(newline="") as file:
            names = [row["image"] for row in csv.DictReader(file)]
        assert json.loads(done.stdout)["images"] == len(names) == (167, 167, 166)[part - 1]
        seen += names
    assert sorted(seen) == sorted(path.name for path in (digits / "images").iterdir())


@pytest.mark.parametrize("part", ["0/4", "5/4", "2", "a/b", "²/4"])
def test_parts_that_are_none(part: str, bundle: Path, digits: Path) -> None:
    assert on_digits(bundle, digits, "--shard", part).exit_code == 2


def test_a_wrongly_fed_model_is_diagnosed(bundle: Path, digits: Path, tmp_path: Path) -> None:
    network = onnx.load(str(bundle / "model.onnx"))
    carried = {prop.key: prop.value for prop in network.metadata_props}
    rightly = Preprocess.from_json(carried["preprocess"])
    wrongly = Preprocess(rightly.size, rightly.resize, rightly.mean, color="rgb")
    helper.set_model_props(network, {**carried, "preprocess": wrongly.to_json()})
    onnx.save(network, str(tmp_path / "model.onnx"))
    done = on_digits(tmp_path, digits, "--expect-top1", 3.6)
    assert done.exit_code == 1
    assert "NOT as expected" in done.stdout
    assert "the channels come as RGB, the network expects BGR" in done.stdout
    assert "the top-1 error is 95.20 %, expected 3.6 ± 0.20 %" in done.stderr
    assert "the channels come" not in on_digits(tmp_path, digits, "--expect-top1", 3.6, "--no-diagnose").stdout
    asked = json.loads(on_digits(tmp_path, digits, "--diagnose", "--sample", 100, "--json").stdout)
    assert asked["diagnosis"]["steps"][0]["kind"] == "color"


def test_images_without_labels(bundle: Path, digits: Path) -> None:
    done = validate(bundle, digits / "images")
    assert done.exit_code == 1
    assert "--labels val.txt" in done.stderr


def test_engines(bundle: Path, digits: Path, tmp_path: Path) -> None:
    source = ("--caffemodel", digits / "SE-ResNet-Digits.caffemodel")
    asked = ("--engine", "onnx,torch", "--engine", "caffe-generic", *source)
    done = on_digits(bundle, digits, *asked, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert [(row["engine"], row["top1_error"]) for row in found["engines"]] == [
        ("onnx", 3.6),
        ("torch", 3.6),
        ("caffe-generic", 3.6),
    ]
    assert [(pair["same_top1"], pair["images"]) for pair in found["agreement"]] == [(500, 500)] * 3
    assert all(0 < pair["max_probability_difference"] < 1e-5 for pair in found["agreement"])
    table = on_digits(bundle, digits, *asked, "--limit", 20).stdout
    assert "onnx and caffe-generic" in table
    assert "20 of 20" in table
    alone = json.loads(on_digits(bundle, digits, "--engine", "torch", *source, "--limit", 20, "--json").stdout)
    assert (alone["engine"], alone["engines"]) == ("torch", [])


def test_engines_that_are_refused(bundle: Path, digits: Path) -> None:
    assert on_digits(bundle, digits, "--engine", "caffe").exit_code == 2
    assert on_digits(bundle, digits, "--caffemodel", digits / "SE-ResNet-Digits.caffemodel").exit_code == 2
    lacking = on_digits(bundle, digits, "--engine", "torch")
    assert lacking.exit_code == 1
    assert "name it with --caffemodel" in lacking.stderr


OWN = """
from dataclasses import dataclass
from senet_convert.converter.layers.activation import ReLU

@dataclass(frozen=True)
class MyReLU(ReLU):
    pass
"""


def test_engines_of_a_network_with_layer_types_of_ones_own(digits: Path, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    text = (digits / "deploy.prototxt").read_text().replace('"ReLU"', '"MyReLU"')
    (tmp_path / "net.prototxt").write_text(text)
    layers, caffemodel = ("--layers", tmp_path / "own.py"), digits / "SE-ResNet-Digits.caffemodel"
    asked = (caffemodel, "--prototxt", tmp_path / "net.prototxt", "--resize", 36, "--no-check", *layers)
    done = CliRunner().invoke(main, ["convert", *map(str, asked), "-o", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    engine = ("--engine", "caffe-generic", "--caffemodel", caffemodel, "--limit", 20, "--json")
    refused = on_digits(tmp_path / "out", digits, *engine)
    assert refused.exit_code == 1
    assert "layer types of your own (MyReLU); give the file that defines them with --layers" in refused.stderr
    found = json.loads(on_digits(tmp_path / "out", digits, *engine, *layers).stdout)
    assert (found["engine"], found["images"]) == ("caffe-generic", 20)
    assert found["top1_error"] < 10
    assert on_digits(tmp_path / "out", digits, *layers).exit_code == 2


def test_predictions_as_parquet(bundle: Path, digits: Path, tmp_path: Path) -> None:
    assert on_digits(bundle, digits, "--limit", 20, "--predictions", tmp_path / "p.parquet").exit_code == 0
    table = parquet.read_table(tmp_path / "p.parquet")
    assert table.num_rows == 20
    assert table.column("label").to_pylist()[0] == 8


def test_ten_crops(bundle: Path, digits: Path) -> None:
    found = json.loads(on_digits(bundle, digits, "--ten-crop", "--json").stdout)
    assert (found["crops"], found["images"]) == (10, 500)
    assert 3.6 < found["top1_error"] < 30, "mirrored digits are no digits"
    diagnosed = json.loads(on_digits(bundle, digits, "--ten-crop", "--diagnose", "--sample", 20, "--json").stdout)
    assert diagnosed["diagnosis"]["images"] == 20


def test_preprocessing_of_this_run_and_an_error_like_chance(bundle: Path, digits: Path) -> None:
    done = on_digits(bundle, digits, "--json", "--color", "rgb", "--limit", 200)
    found = json.loads(done.stdout)
    assert found["preprocess"]["color"] == "rgb"
    assert {one["value"]: one["known"] for one in found["preprocess_origins"]["values"]}["color"] is True
    assert found["no_better_than_chance"] is True
    assert found["diagnosis"]["steps"][0]["kind"] == "color"
