from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from senet_convert.cli import main


def classify(*args: object, stdin: str = "") -> Result:
    return CliRunner().invoke(main, ["classify", *map(str, args)], input=stdin)


def test_json_answers_in_the_order_asked(bundle: Path, digits: Path) -> None:
    with np.load(digits / "reference.npz") as file:
        expected = file["prob"]
    names = [f"digits_val_{number:08d}.png" for number in (7, 2, 5)]
    done = classify(bundle, *(digits / "images" / name for name in names), "--top", 3, "--json")
    assert done.exit_code == 0, done.output
    answers = json.loads(done.stdout)
    assert [Path(answer["image"]).name for answer in answers] == names
    for answer, row in zip(answers, expected[[6, 1, 4]], strict=True):
        assert [top["index"] for top in answer["top"]] == np.argsort(-row)[:3].tolist()
        assert all(abs(top["probability"] - row[top["index"]]) < 1e-5 for top in answer["top"])
        assert set(answer["top"][0]) == {"index", "label", "probability"}
        assert answer["class_order"] == "as the labels given"


def test_paths_on_standard_input(bundle: Path, digits: Path) -> None:
    path = digits / "images" / "digits_val_00000001.png"
    done = classify(bundle / "model.onnx", "-", "--json", stdin=f"{path}\n")
    assert [answer["image"] for answer in json.loads(done.stdout)] == [str(path)]


def test_table(bundle: Path, digits: Path) -> None:
    done = classify(bundle, digits / "images" / "digits_val_00000001.png", "--top", 2)
    assert done.exit_code == 0
    assert "four" in done.stdout
    assert "0.9953" in done.stdout
    assert "class order: as the labels given; computed by cpu" in done.stdout
    assert done.stderr.startswith(
        "preprocessing: pictures are cropped to 32x32 from a shorter side of 36; the mean 171"
    )


def test_a_broken_image_among_others(bundle: Path, digits: Path, tmp_path: Path) -> None:
    (tmp_path / "torn.png").write_bytes(b"nonsense")
    good = digits / "images" / "digits_val_00000001.png"
    done = classify(bundle, tmp_path / "torn.png", good, "--json")
    assert done.exit_code == 1
    torn, answer = json.loads(done.stdout)
    assert torn["top"] == []
    assert "no picture" in torn["error"]
    assert answer["top"][0]["label"] == "four"
    assert "1 of 2 images cannot be classified" in done.stderr
    assert "torn.png" in done.stderr
    table = classify(bundle, tmp_path / "torn.png").stdout
    assert "torn.png" in table
    assert torn["error"] in table


@pytest.mark.parametrize(
    ("image", "said"), [("https://example.com/a.png", "addresses are not fetched"), ("gone.png", "no such file")]
)
def test_images_that_are_refused(image: str, said: str, bundle: Path) -> None:
    done = classify(bundle, image)
    assert done.exit_code == 1
    assert said in done.stderr
    assert done.stdout == ""


def test_a_provider_that_is_not_there(bundle: Path, digits: Path) -> None:
    done = classify(bundle, digits / "images", "--provider", "openvino")
    if done.exit_code == 0:
        pytest.skip("the installed onnxruntime has OpenVINO")
    assert done.exit_code == 1
    assert "onnxruntime-openvino" in done.stderr
    assert classify(bundle, digits / "images", "--provider", "cudda").exit_code == 2


def test_what_is_no_model(tmp_path: Path, digits: Path) -> None:
    done = classify(tmp_path, digits / "images")
    assert done.exit_code == 1
    assert "no model.onnx" in done.stderr


def test_ten_crops(bundle: Path, digits: Path) -> None:
    path = digits / "images" / "digits_val_00000001.png"
    one, ten = (json.loads(classify(bundle, path, *flag, "--json").stdout) for flag in ((), ("--ten-crop",)))
    assert one[0]["top"][0]["index"] == ten[0]["top"][0]["index"]
    assert one[0]["top"][0]["probability"] != ten[0]["top"][0]["probability"]


def test_a_model_that_takes_whole_pictures_answers_the_same(bundle: Path, digits: Path, tmp_path: Path) -> None:
    """Odd sizes: landscape, portrait, one pixel high or wide."""
    source = (digits / "SE-ResNet-Digits.caffemodel", "--resize", 36, "--labels", digits / "classes.txt")
    asked = ("convert", *source, "--input", "image", "--input-size", "any", "--no-check", "-o", tmp_path / "whole")
    done = CliRunner().invoke(main, [str(arg) for arg in asked])
    assert done.exit_code == 0, done.output
    (tmp_path / "images").mkdir()
    picture = cv2.imread(str(digits / "images" / "digits_val_00000001.png"))
    assert picture is not None
    for width, height in [(101, 37), (37, 101), (33, 33), (5, 7), (640, 481), (1, 50), (50, 1), (1, 1)]:
        scaled = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
        assert cv2.imwrite(str(tmp_path / "images" / f"{width}x{height}.png"), scaled)
    answers = [
        json.loads(classify(model, tmp_path / "images", "--top", 10, "--json").stdout)
        for model in (bundle, tmp_path / "whole")
    ]
    assert len(answers[0]) == 8
    for plain, whole in zip(*answers, strict=True):
        assert [top["index"] for top in whole["top"]] == [top["index"] for top in plain["top"]], plain["image"]
        differences = [a["probability"] - b["probability"] for a, b in zip(plain["top"], whole["top"], strict=True)]
        assert max(map(abs, differences)) < 1e-6
    assert {answer["top"][0]["label"] for answer in answers[1]} > {"four"}
    refused = classify(tmp_path / "whole", tmp_path / "images", "--ten-crop")
    assert refused.exit_code == 1
    assert "crops their centre itself" in refused.stderr


def test_preprocessing_of_this_run(bundle: Path, digits: Path) -> None:
    picture = digits / "images" / "digits_val_00000001.png"
    done = classify(bundle, picture, "--mean", "0", "--resize", "squash", "--resample", "pil", "--json")
    assert done.exit_code == 0, done.output
    assert "pictures are squashed to 32x32, whatever their aspect; the mean 0 is subtracted" in done.stderr
    assert "resized as by Pillow (assumed: scale, color)" in done.stderr
    (answer,) = json.loads(done.stdout)
    assert answer["assumed"] == ["scale", "color"]
    as_carried = json.loads(classify(bundle, picture, "--json").stdout)[0]
    assert as_carried["assumed"] == ["mean", "scale", "color", "resample"]
    assert answer["top"][0]["probability"] != as_carried["top"][0]["probability"]
    same = classify(bundle, picture, "--mean", "171,86,94", "--crop", 32, "--json", "--strict")
    assert json.loads(same.stdout)[0]["top"] == as_carried["top"]


def test_preprocessing_that_cannot_be(bundle: Path, image_bundle: Path, digits: Path) -> None:
    picture = digits / "images" / "digits_val_00000001.png"
    assert "--crop 30: the network takes 32x32" in classify(bundle, picture, "--crop", 30).stderr
    assert (
        "--mean, --color: the model does that itself"
        in classify(image_bundle, picture, "--mean", "1", "--color", "rgb").stderr
    )
    assert classify(bundle, picture, "--resize", "0").exit_code == 2
    strict = classify(bundle, picture, "--strict")
    assert (strict.exit_code, strict.stdout) == (1, "")
    assert (
        "model.onnx: preprocessing is assumed, not known: the mean 171, 86, 94 is subtracted (a comment"
        in strict.stderr
    )
