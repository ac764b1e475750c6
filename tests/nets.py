"""Small networks as files: a prototxt, and a caffemodel with random weights made to fit it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from google.protobuf import text_format

from senet_convert.converter.graph.build import build
from senet_convert.converter.graph.draft import Options
from senet_convert.converter.graph.graph import Graph
from senet_convert.converter.layers.normalise import BatchNorm
from senet_convert.proto import NetDef, caffe_pb2, read_caffemodel, read_prototxt
from senet_convert.proto.netdef import Shape

INPUT = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 12 dim: 10 } } }\n'
# Everything that a conversion meets: in-place chains, a gate, a shortcut, a classifier.
SE_NET = (
    'name: "tiny"\n# mean_value: 104, 117, 123\n'
    + INPUT
    + """
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 6 kernel_size: 3 pad: 1 bias_term: false } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "gap" type: "Pooling" bottom: "conv" top: "gap" pooling_param { pool: AVE global_pooling: true } }
layer { name: "down" type: "Convolution" bottom: "gap" top: "down"
        convolution_param { num_output: 6 kernel_size: 1 } }
layer { name: "gate" type: "Sigmoid" bottom: "down" top: "down" }
layer { name: "axpy" type: "Axpy" bottom: "down" bottom: "conv" bottom: "conv" top: "sum" }
layer { name: "pool" type: "Pooling" bottom: "sum" top: "pool" pooling_param { kernel_size: 3 stride: 2 } }
layer { name: "drop" type: "Dropout" bottom: "pool" top: "pool" }
layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc" inner_product_param { num_output: 7 } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""
)


@dataclass(frozen=True)
class Files:
    """A network on disk."""

    prototxt: Path
    caffemodel: Path

    def graph(self, options: Options | None = None) -> Graph:
        return build(read_prototxt(self.prototxt), read_caffemodel(self.caffemodel), options)


def parse(text: str) -> caffe_pb2.NetParameter:
    return text_format.Parse(text, caffe_pb2.NetParameter())


def blob(values: np.ndarray, shape: Shape | None = None) -> caffe_pb2.BlobProto:
    made = caffe_pb2.BlobProto(data=np.asarray(values, "<f4").tobytes())
    made.shape.dim.extend(shape if shape is not None else values.shape)
    return made


def fill(net: caffe_pb2.NetParameter, definition: NetDef, seed: int = 0) -> None:
    """Random blobs for every layer that wants some; variances are positive, BatchNorm's factor is not 1."""
    random = np.random.default_rng(seed)
    layers = {layer.name: layer for layer in net.layer}
    for want in build(definition, None).wanted:
        blobs = [random.normal(0, 0.5, shape).astype("<f4") for shape in want.shapes]
        if "variance" in want.layer.statistics.intersection(want.layer.names(len(blobs))):
            place = want.layer.names(len(blobs)).index("variance")
            blobs[place] = np.abs(blobs[place]) + np.float32(0.5)
        if isinstance(want.layer, BatchNorm):
            blobs[2] = np.full(1, 0.9, "<f4")
        layers[want.name].blobs.extend(blob(values) for values in blobs)


def write(folder: Path, text: str = SE_NET, name: str = "net") -> Files:
    """`name`.prototxt and `name`.caffemodel in `folder`."""
    files = Files(folder / f"{name}.prototxt", folder / f"{name}.caffemodel")
    files.prototxt.write_text(text, encoding="utf-8")
    net = parse(text)
    fill(net, read_prototxt(files.prototxt))
    files.caffemodel.write_bytes(net.SerializeToString())
    return files


def definition(folder: Path, text: str) -> NetDef:
    """The NetDef of a prototxt's text."""
    path = folder / "net.prototxt"
    path.write_text(text, encoding="utf-8")
    return read_prototxt(path)
