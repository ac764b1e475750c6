"""Small networks with every blob as BVLC Caffe 1.0 computed it (CPU, with the SENet authors' Axpy layer)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from senet_convert.converter.graph.build import build
from senet_convert.converter.graph.graph import Graph
from senet_convert.proto import read_caffemodel, read_prototxt
from tests.paths import GOLDEN

from .layers.running import Values, close, onnx_values, torch_values

CASES = sorted(path.parent for path in GOLDEN.rglob("net.caffemodel") if (path.parent / "outputs.npz").exists())
TOLERANCE = 5e-5  # of a blob's largest value; another BLAS moves Caffe's own numbers by up to 5e-6
# What counts, compares or only moves values must be the same to the bit.
EXACT = ("arg_", "mask", "max_", "threshold", "cat_", "sl_", "flat", "rs_", "crop_", "tile_")


def graph(case: Path) -> Graph:
    weights = read_caffemodel(case / "net.caffemodel")
    prototxt = case / "deploy.prototxt"
    return build(read_prototxt(prototxt) if prototxt.exists() else weights, weights)


def values(path: Path) -> Values:
    with np.load(path) as file:
        return dict(file)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_blob_is_caffes(case: Path, tmp_path: Path) -> None:
    network, inputs, outputs = graph(case), values(case / "inputs.npz"), values(case / "outputs.npz")
    wanted = {blob: value for blob, value in outputs.items() if blob not in inputs}
    engines = {
        "float64": torch_values(network, inputs, torch.float64),
        "ONNX": onnx_values(tmp_path, network, inputs, 17),
    }
    assert wanted
    for blob, value in wanted.items():
        for engine, found in engines.items():
            close(found[blob], value, 0 if blob.startswith(EXACT) else TOLERANCE, f"{blob}, {engine}")


def test_shared_memory_is_told() -> None:
    warnings = " ".join(graph(GOLDEN / "aliasing").warnings)
    assert "'relu_s1' overwrites 's1' in place, which shares its memory with 'conv1', 's2'" in warnings
    assert "'sig_r' overwrites 'r' in place, which shares its memory with 'conv2'" in warnings
