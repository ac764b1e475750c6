"""Random networks whose float32 error is hard to foresee: drawn by their number, with weights and an input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from senet_convert.converter.graph.build import build
from senet_convert.converter.graph.graph import Graph
from senet_convert.converter.layers.normalise import BatchNorm
from senet_convert.converter.runner import as_tensor
from senet_convert.proto import Blob, LayerDef, NetDef, read_prototxt

Random = np.random.Generator
Array = NDArray[np.float32]

FACTOR = 0.9  # BatchNorm's third blob
SCALES = (1.0, 1.0, 255.0)  # of the input: 255 for networks that are fed 0..255 in place of 0..1


@dataclass
class Draft:
    """A prototxt that grows; `gains` is what a layer's weights are multiplied with besides the usual."""

    random: Random
    shape: tuple[int, ...]  # of the input
    text: str = ""
    layers: int = 0
    gains: dict[str, float] = field(default_factory=dict)

    def add(self, kind: str, bottoms: Sequence[str], params: str = "", gain: float = 1.0) -> str:
        """One layer of its own top."""
        self.layers += 1
        name = f"{kind.lower()}{self.layers}"
        edges = " ".join(f'bottom: "{bottom}"' for bottom in bottoms)
        self.text += f'layer {{ name: "{name}" type: "{kind}" {edges} top: "{name}" {params} }}\n'
        self.gains[name] = gain
        return name

    def among(self, *choices: float) -> float:
        """One of these."""
        return float(self.random.choice(choices))

    def between(self, low: float, high: float) -> float:
        """A positive number, evenly by its logarithm."""
        return float(np.exp(self.random.uniform(np.log(low), np.log(high))))

    def count(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`."""
        return int(self.random.integers(low, high + 1))

    def conv(self, x: str, outputs: int, kernel: int = 3, gain: float = 1.0, more: str = "", pad: bool = True) -> str:
        """A convolution that keeps the map's size, with `pad`."""
        sizes = f"num_output: {outputs} kernel_size: {kernel} pad: {kernel // 2 if pad else 0} {more}"
        return self.add("Convolution", [x], f"convolution_param {{ {sizes} }}", gain)

    def dense(self, x: str, outputs: int, gain: float = 1.0) -> str:
        """An inner product."""
        return self.add("InnerProduct", [x], f"inner_product_param {{ num_output: {outputs} }}", gain)

    def leaky(self, x: str) -> str:
        """ReLU with a slope."""
        return self.add("ReLU", [x], "relu_param { negative_slope: 0.1 }")

    def normed(self, x: str) -> str:
        """BatchNorm, Scale and ReLU."""
        x = self.add("BatchNorm", [x])
        x = self.add("Scale", [x], "scale_param { bias_term: true }")
        return self.add("ReLU", [x])

    def gate(self, x: str, channels: int, gain: float) -> str:
        """The factors of squeeze and excitation, (N, C, 1, 1)."""
        squeezed = self.add("Pooling", [x], "pooling_param { pool: AVE global_pooling: true }")
        hidden = self.add("ReLU", [self.conv(squeezed, max(2, channels // 4), 1, gain)])
        return self.add("Sigmoid", [self.conv(hidden, channels, 1, gain)])

    def classifier(self, x: str, gain: float = 3.0) -> str:
        """Few outputs behind a padded average and a pooling that rounds up."""
        x = self.add("Pooling", [x], "pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }")
        x = self.add("Pooling", [x], "pooling_param { pool: MAX kernel_size: 3 stride: 2 }")
        x = self.dense(x, self.count(1, 5), gain)
        return self.add("Softmax", [x]) if self.random.random() < 0.5 else x


def saturated(draft: Draft) -> None:
    """SE blocks whose gates are nearly all 0 or 1, behind large sums."""
    x, channels = "data", draft.count(4, 32)
    for _ in range(draft.count(1, 3)):
        x = draft.leaky(draft.conv(x, channels, 3, draft.among(1, 5, 30)))
        x = draft.add("Axpy", [draft.gate(x, channels, draft.among(1, 4, 20)), x, x])
    draft.conv(x, draft.count(1, 3))


def upscaler(draft: Draft) -> None:
    """Convolutions without padding, SE blocks by a Scale of two bottoms, few gates between 0 and 1; a U when large."""
    x, channels = "data", draft.count(8, 32)
    for _ in range(draft.count(1, 3)):
        x = draft.leaky(draft.conv(x, channels, 3, draft.between(0.5, 30), pad=False))
    gate = draft.add("Flatten", [draft.gate(x, channels, draft.between(0.5, 30))])
    x = draft.add("Scale", [x, gate], "scale_param { axis: 0 bias_term: false }")
    if draft.random.random() < 0.5:
        down = draft.leaky(draft.conv(x, channels, 2, 1.0, "stride: 2", pad=False))
        up = f"convolution_param {{ num_output: {channels} kernel_size: 2 stride: 2 }}"
        up = draft.leaky(draft.add("Deconvolution", [down], up))
        x = draft.add("Crop", [x, up], "crop_param { axis: 2 offset: 0 }")
        x = draft.add("Eltwise", [x, up])
    draft.conv(x, draft.count(1, 3), 3, pad=False)


def residual(draft: Draft) -> None:
    """A deep residual network with SE blocks."""
    channels = int(draft.among(4, 8, 16))
    x = draft.normed(draft.conv("data", channels))
    for _ in range(draft.count(3, 8)):
        y = draft.normed(draft.conv(x, channels, 3, 1.0, f"group: {int(draft.among(1, 2, 4))} bias_term: false"))
        y = draft.add("BatchNorm", [draft.conv(y, channels)])
        x = draft.add("ReLU", [draft.add("Axpy", [draft.gate(y, channels, draft.among(1, 1, 10)), y, x])])
    draft.classifier(x)


def plain(draft: Draft) -> None:
    """Convolutions, poolings and a classifier."""
    x = "data"
    for _ in range(draft.count(1, 3)):
        x = draft.add("ReLU", [draft.conv(x, draft.count(2, 16))])
    draft.classifier(x)


def cancelling(draft: Draft) -> None:
    """Differences of nearly equal values."""
    a = draft.conv("data", 6)
    near = 1 + draft.between(1e-5, 1e-2)
    b = draft.add("Power", [a], f"power_param {{ scale: {near:.8f} shift: {draft.between(1e-5, 1e-2):.8f} }}")
    y = draft.add("Eltwise", [a, b], "eltwise_param { coeff: 1 coeff: -1 }")
    draft.classifier(draft.normed(y) if draft.random.random() < 0.5 else draft.add("TanH", [y]))


def sure(draft: Draft) -> None:
    """A Softmax of which all but few probabilities are 0 or 1, of classes or on a map; more is made of it."""
    x = draft.leaky(draft.conv("data", draft.count(4, 16), 3, draft.between(1, 10)))
    if draft.random.random() < 0.5:
        x = draft.add("Softmax", [draft.conv(x, draft.count(2, 6), 3, draft.between(1, 30))])
        draft.conv(x, draft.count(1, 3))
    else:
        x = draft.add("Softmax", [draft.dense(x, draft.count(2, 10), draft.between(1, 30))])
        draft.dense(x, draft.count(1, 4))


def normalised(draft: Draft) -> None:
    """LRN, MVN and BatchNorm of values that hardly vary."""
    x = draft.conv("data", 8, 3, draft.between(1e-4, 1))
    kinds = ("", "lrn", "within", "mvn")
    for kind in draft.random.choice(kinds, draft.count(1, 3)):
        if kind == "lrn":
            x = draft.add("LRN", [x], f"lrn_param {{ local_size: 3 alpha: {draft.between(1e-4, 10):.6f} }}")
        elif kind == "within":
            x = draft.add("LRN", [x], "lrn_param { local_size: 3 norm_region: WITHIN_CHANNEL alpha: 0.1 }")
        elif kind == "mvn":
            x = draft.add("MVN", [x])
        else:
            x = draft.add("BatchNorm", [x])
        x = draft.conv(x, 8, 3, draft.between(1e-3, 3))
    draft.classifier(draft.normed(x))


CURVES = (
    ("PReLU", ""),
    ("ELU", ""),
    ("TanH", ""),
    ("Sigmoid", ""),
    ("BNLL", ""),
    ("AbsVal", ""),
    ("Swish", ""),
    ("Exp", "exp_param { scale: 0.1 }"),
    ("Power", "power_param { power: 2 scale: 0.1 }"),
    ("Power", "power_param { scale: -3 shift: 1000 }"),
    ("ReLU6", ""),
)


def curved(draft: Draft) -> None:
    """Activations of all kinds between layers that spread values wide."""
    x, channels = "data", draft.count(2, 8)
    for _ in range(draft.count(1, 4)):
        x = draft.conv(x, channels, int(draft.among(1, 3)), draft.between(0.3, 10))
        for i in draft.random.choice(len(CURVES), draft.count(1, 2)):
            x = draft.add(CURVES[i][0], [x], CURVES[i][1])
    draft.classifier(x)


def scaled(draft: Draft) -> None:
    """A long chain of Scale, Bias, Power and ReLU, with sums over the chain."""
    first = x = draft.conv("data", draft.count(1, 6))
    for _ in range(draft.count(10, 40)):
        kind = draft.random.choice(
            ["Scale", "Scale", "Bias", "Power", "ReLU", "Eltwise"], p=[0.3, 0.2, 0.2, 0.1, 0.1, 0.1]
        )
        if kind == "Scale":
            x = draft.add("Scale", [x], "scale_param { bias_term: true }")
        elif kind == "Power":
            x = draft.add("Power", [x], f"power_param {{ scale: {draft.among(-1, 0.7, 1.3):.2f} shift: 0.1 }}")
        elif kind == "Eltwise":
            x = draft.add("Eltwise", [x, first])
        elif kind == "ReLU":
            x = draft.leaky(x)
        else:
            x = draft.add("Bias", [x])
    draft.classifier(x)


def vectors(draft: Draft) -> None:
    """No map at all: sums of thousands, one to four values each."""
    draft.shape = (draft.count(1, 2), draft.count(3, 3000))
    x = "data"
    for _ in range(draft.count(1, 4)):
        x = draft.dense(x, int(draft.among(1, 2, 4, 64, 512)), draft.between(0.3, 30))
        kind = str(draft.random.choice(["ReLU", "Sigmoid", "TanH", "PReLU"]))
        x = draft.add(kind, [x])
    draft.dense(x, draft.count(1, 4))


def gated_vectors(draft: Draft) -> None:
    """A gate of each value of few, the product of both, and a sum."""
    draft.shape = (1, 64, draft.count(1, 3), draft.count(1, 3))
    x = draft.leaky(draft.conv("data", draft.count(2, 8), 3, draft.between(1, 100)))
    gate = draft.add("Sigmoid", [draft.conv(x, draft.count(1, 1), 1, draft.between(0.1, 10))])
    y = draft.add("Tile", [gate], "tile_param { axis: 1 tiles: 3 }")
    z = draft.conv(x, 3, 1)
    x = draft.add("Eltwise", [y, z], "eltwise_param { operation: PROD }")
    draft.dense(x, draft.count(1, 4))


KINDS: tuple[Callable[[Draft], None], ...] = (
    saturated,
    upscaler,
    residual,
    plain,
    cancelling,
    sure,
    normalised,
    curved,
    scaled,
    vectors,
    gated_vectors,
    upscaler,
)


def drawn(number: int, folder: Path) -> tuple[str, Graph, dict[str, Array]]:
    """(The name of its kind, the network, its input). Writes a prototxt into `folder`."""
    random = np.random.default_rng(number)
    side = int(random.integers(10, 29))
    draft = Draft(random, (int(random.integers(1, 3)), 3, side, side))
    kind = KINDS[number % len(KINDS)]
    kind(draft)
    dims = " ".join(f"dim: {size}" for size in draft.shape)
    path = folder / "net.prototxt"
    data = f'layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ {dims} }} }} }}\n'
    path.write_text(data + draft.text, encoding="utf-8")
    net = read_prototxt(path)
    graph = build(net, _weights(net, random, draft.gains))
    scale = float(random.choice(SCALES))
    low = float(random.choice([0.0, 0.0, -0.5]))  # with a mean subtracted, or not
    inputs = {"data": (scale * (random.random(draft.shape) + low)).astype(np.float32)}
    return kind.__name__, calibrated(graph, inputs) if random.random() < 0.5 else graph, inputs


def _weights(net: NetDef, random: Random, gains: dict[str, float]) -> NetDef:
    """Random blobs of the sizes that trained ones have: He's for weights."""
    layers = []
    for want in build(net, None).wanted:
        blobs = []
        for i, shape in enumerate(want.shapes):
            spread = gains[want.name] * np.sqrt(2 / prod(shape[1:])) if i == 0 and len(shape) > 1 else 0.1
            around = 1.0 if i == 0 and len(shape) == 1 and type(want.layer).__name__ == "Scale" else 0.0
            blobs.append(random.normal(around, spread, shape).astype("<f4"))
        if isinstance(want.layer, BatchNorm):
            blobs[1] = (random.random(want.shapes[1]) + 10 ** random.uniform(-4, 0)).astype("<f4")
            blobs[2] = np.full(1, FACTOR, "<f4")
        shaped = zip(want.shapes, blobs, strict=True)
        layers.append(LayerDef(want.name, "", blobs=tuple(Blob(shape, blob.reshape(-1)) for shape, blob in shaped)))
    return NetDef("", net.source, tuple(layers))


def calibrated(graph: Graph, inputs: dict[str, Array]) -> Graph:
    """With each BatchNorm's mean and variance as they are on these inputs, as training leaves them."""
    arrays = dict(graph.accounts.arrays)
    live = {name: torch.from_numpy(array).double() for name, array in inputs.items()}
    with torch.inference_mode():
        for node in graph.nodes:
            if isinstance(node.layer, BatchNorm):
                axes = [axis for axis in range(live[node.inputs[0]].ndim) if axis != 1]
                variance, mean = torch.var_mean(live[node.inputs[0]], axes)
                for key, array in zip(node.weights, (mean, variance), strict=True):
                    arrays[key] = array.float().numpy()
            weights = [as_tensor(arrays[key]).double() for key in node.weights]
            tops = node.layer.torch([live[name] for name in node.inputs], weights)
            live.update(zip(node.outputs, tops, strict=True))
    return replace(graph, accounts=replace(graph.accounts, arrays=arrays))
