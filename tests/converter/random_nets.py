"""Random networks that Caffe would take: chains and branches, in-place layers, merges; and literal models of layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from tests.converter.layers.test_convolution import convolution
from tests.converter.layers.test_pooling import pooled

Shape = tuple[int, ...]
Model = Callable[[Sequence[np.ndarray], Sequence[np.ndarray]], np.ndarray]  # bottoms and weights -> top, in float64

MOST_CELLS, MOST_CHANNELS = 600, 6  # of a blob: the literal models are slow


@dataclass
class Net:
    """What has been drawn so far: the text, the blobs with their shapes, who may be overwritten, the models."""

    text: str = ""
    shapes: dict[str, Shape] = field(default_factory=dict)
    read: set[str] = field(default_factory=set)
    models: dict[str, Model] = field(default_factory=dict)
    layers: int = 0

    def add(
        self,
        kind: str,
        bottoms: Sequence[str],
        shape: Shape,
        params: str = "",
        model: Model | None = None,
        top: str = "",
    ) -> str:
        """One layer; `top` names the bottom that it overwrites. Gives the top."""
        name = f"l{self.layers}"
        self.layers += 1
        top = top or f"b{self.layers}"
        edges = "".join(f' bottom: "{bottom}"' for bottom in bottoms) + f' top: "{top}"'
        self.text += f'layer {{ name: "{name}" type: "{kind}"{edges} {params} }}\n'
        self.read.update(bottoms)
        self.read.discard(top)
        self.shapes[top] = shape
        if model:
            self.models[name] = model
        return top

    def images(self) -> list[str]:
        """Blobs of four axes."""
        return [blob for blob, shape in self.shapes.items() if len(shape) == 4]


def sigmoid(x: np.ndarray) -> np.ndarray:
    y: np.ndarray = 1 / (1 + np.exp(-np.clip(x, -700, 700)))
    return y


def per_channel(weight: np.ndarray, x: np.ndarray) -> np.ndarray:
    return weight.reshape(-1, *(1,) * (x.ndim - 2))


def float32(value: float) -> float:
    return float(np.float32(value))


# Layers that keep the shape, in place or not: type, parameters, model.
KEEP: list[tuple[str, str, Model | None]] = [
    ("ReLU", "", lambda x, w: np.maximum(x[0], 0)),
    ("ReLU", "relu_param { negative_slope: 0.25 }", lambda x, w: np.where(x[0] > 0, x[0], x[0] * 0.25)),
    ("ReLU", "relu_param { relu6: true }", lambda x, w: np.clip(x[0], 0, 6)),
    ("ReLU6", "", lambda x, w: np.clip(x[0], 0, 6)),
    ("PReLU", "", lambda x, w: np.where(x[0] > 0, x[0], x[0] * per_channel(w[0], x[0]))),
    ("Sigmoid", "", lambda x, w: sigmoid(x[0])),
    ("TanH", "", lambda x, w: np.tanh(x[0])),
    ("ELU", "elu_param { alpha: 0.5 }", lambda x, w: np.where(x[0] > 0, x[0], 0.5 * np.expm1(np.minimum(x[0], 0)))),
    ("Swish", "", lambda x, w: x[0] * sigmoid(x[0])),
    ("HardSwish", "", lambda x, w: x[0] * np.clip(x[0] + 3, 0, 6) / 6),
    ("Power", "power_param { scale: -0.5 shift: 0.75 }", lambda x, w: x[0] * -0.5 + 0.75),
    ("Power", "power_param { power: 2 }", lambda x, w: x[0] * x[0]),
    ("Clip", "clip_param { min: -1 max: 0.5 }", lambda x, w: np.clip(x[0], -1, 0.5)),
    ("Scale", "", lambda x, w: x[0] * per_channel(w[0], x[0])),
    ("Scale", "scale_param { bias_term: true }", lambda x, w: x[0] * per_channel(w[0], x[0]) + per_channel(w[1], x[0])),
    ("Bias", "", lambda x, w: x[0] + per_channel(w[0], x[0])),
    (
        "BatchNorm",
        "",
        lambda x, w: (x[0] - per_channel(w[0], x[0])) / np.sqrt(per_channel(w[1], x[0]) + float32(1e-5)),
    ),
    ("BN", "bn_param { bn_mode: INFERENCE }", lambda x, w: x[0] * per_channel(w[0], x[0]) + per_channel(w[1], x[0])),
    ("Dropout", "", None),
]
# The same of images only, never in place.
KEEP_IMAGES: list[tuple[str, str, Model | None]] = [
    ("AbsVal", "", lambda x, w: np.abs(x[0])),
    ("LRN", "lrn_param { local_size: 3 }", None),
    ("LRN", "lrn_param { local_size: 3 norm_region: WITHIN_CHANNEL }", None),
    ("MVN", "", None),
    ("Normalize", "norm_param { across_spatial: false channel_shared: false }", None),
]


def keep(draw: DrawFn, net: Net) -> None:
    """A layer that keeps the shape; in place where nothing has read the blob before."""
    bottom = draw(st.sampled_from(list(net.shapes)))
    kinds = KEEP + (KEEP_IMAGES if len(net.shapes[bottom]) == 4 else [])
    kind, params, model = draw(st.sampled_from(kinds))
    free = bottom not in net.read and (kind, params, model) in KEEP
    net.add(kind, [bottom], net.shapes[bottom], params, model, bottom if free and draw(st.booleans()) else "")


def convolve(draw: DrawFn, net: Net) -> None:
    """A convolution, grouped or not, with one pad or one for each side."""
    bottom = draw(st.sampled_from(net.images()))
    n, channels, *space = net.shapes[bottom]
    group = draw(st.sampled_from([g for g in range(1, channels + 1) if channels % g == 0]))
    outputs = group * draw(st.integers(1, max(1, MOST_CHANNELS // group)))
    kernel, stride, dilation = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    sides = draw(st.sampled_from([(0, 0, 0, 0), (1, 1, 1, 1), (0, 1, 0, 1), (2, 0, 1, 1)]))
    extent = dilation * (kernel - 1) + 1
    out = [(size + a + b - extent) // stride + 1 for size, a, b in zip(space, sides[::2], sides[1::2], strict=True)]
    if min(out) < 1 or min(size - extent for size in space) < -2:
        return
    pads = (
        f"pad: {sides[0]}"
        if len(set(sides)) == 1
        else " ".join(f"pad_{side}: {pad}" for side, pad in zip("tblr", sides, strict=True))
    )
    shape = f"kernel_size: {kernel} stride: {stride} dilation: {dilation} group: {group} {pads}"

    def model(x: Sequence[np.ndarray], w: Sequence[np.ndarray]) -> np.ndarray:
        before, after = (sides[0], sides[2]), (sides[1], sides[3])
        y: np.ndarray = convolution(x[0], w[0], (stride,) * 2, before, (dilation,) * 2, group, after)
        y += w[1].reshape(-1, 1, 1)
        return y

    net.add(
        "Convolution", [bottom], (n, outputs, *out), f"convolution_param {{ num_output: {outputs} {shape} }}", model
    )


def pool(draw: DrawFn, net: Net) -> None:
    """MAX or AVE, rounded up or down, padded or not, or over the whole map."""
    bottom = draw(st.sampled_from(net.images()))
    n, channels, *space = net.shapes[bottom]
    kind = draw(st.sampled_from(["MAX", "AVE"]))
    kernel, stride = draw(st.integers(1, min(3, *space))), draw(st.integers(1, 3))
    pad = draw(st.integers(0, kernel - 1))
    mode = draw(st.sampled_from(["CEIL", "FLOOR"]))
    rounding = draw(st.sampled_from([f"round_mode: {mode}", f"ceil_mode: {str(mode == 'CEIL').lower()}"]))
    params = f"pool: {kind} kernel_size: {kernel} stride: {stride} pad: {pad} {rounding}"
    given = ((kernel,) * 2, (stride,) * 2, (pad,) * 2, mode)
    if draw(st.integers(0, 3)) == 0:
        params, given = f"pool: {kind} global_pooling: true", ((space[0], space[1]), (1, 1), (0, 0), "CEIL")

    def model(x: Sequence[np.ndarray], w: Sequence[np.ndarray]) -> np.ndarray:
        best, _, mean = pooled(x[0], *given)
        return best if kind == "MAX" else mean

    tried = model([np.zeros((1, 1, *space))], [])
    if not (tried == 0).all():
        return  # a last window outside the map: 0/0, or the lowest float32, which ends what comes behind it
    top = tried.shape[2:]
    net.add("Pooling", [bottom], (n, channels, *top), f"pooling_param {{ {params} }}", model)


def merge(draw: DrawFn, net: Net) -> None:
    """Concat or Eltwise of blobs that fit."""
    first = draw(st.sampled_from(list(net.shapes)))
    shape = net.shapes[first]
    if draw(st.booleans()) and len(shape) > 1:
        others = [b for b, s in net.shapes.items() if (s[0], *s[2:]) == (shape[0], *shape[2:]) and len(s) == len(shape)]
        blobs = [first, draw(st.sampled_from(others))]
        channels = sum(net.shapes[blob][1] for blob in blobs)
        if channels <= 2 * MOST_CHANNELS or len(shape) == 2:
            net.add("Concat", blobs, (shape[0], channels, *shape[2:]), "", lambda x, w: np.concatenate(x, 1))
        return
    blobs = [
        first,
        *draw(st.lists(st.sampled_from([b for b, s in net.shapes.items() if s == shape]), min_size=1, max_size=2)),
    ]
    params, model = draw(
        st.sampled_from(
            [
                ("", lambda x, w: sum(x[1:], x[0])),
                ("operation: MAX", lambda x, w: np.maximum.reduce(x)),
                ("operation: PROD", lambda x, w: np.multiply.reduce(x)),
                (
                    "".join(f"coeff: {i - 1.5} " for i in range(len(blobs))),
                    lambda x, w: sum((i - 1.5) * y for i, y in enumerate(x)),
                ),
            ]
        )
    )
    net.add("Eltwise", blobs, shape, f"eltwise_param {{ {params} }}", model)


def gate(draw: DrawFn, net: Net) -> None:
    """Squeeze and excitation: a factor per channel from the whole map, and Axpy."""
    x = draw(st.sampled_from(net.images()))
    shape = net.shapes[x]
    y = draw(st.sampled_from([blob for blob, other in net.shapes.items() if other == shape]))
    squeezed = net.add("Pooling", [x], (*shape[:2], 1, 1), "pooling_param { pool: AVE global_pooling: true }")
    params = f"convolution_param {{ num_output: {shape[1]} kernel_size: 1 }}"
    excited = net.add("Convolution", [squeezed], (*shape[:2], 1, 1), params)
    net.add("Sigmoid", [excited], (*shape[:2], 1, 1), "", lambda x, w: sigmoid(x[0]), excited)
    net.add("Axpy", [excited, x, y], shape, "", lambda x, w: x[0].reshape(*x[0].shape[:2], 1, 1) * x[1] + x[2])


def move(draw: DrawFn, net: Net) -> None:
    """Layers that move values, or take them apart."""
    bottom = draw(st.sampled_from(net.images()))
    n, channels, height, width = net.shapes[bottom]
    kind = draw(st.sampled_from(["Permute", "ShuffleChannel", "Upsample", "Interp", "Reshape", "Deconvolution"]))
    if kind == "Permute":
        params = "permute_param { order: 0 order: 2 order: 3 order: 1 }"
        if height <= MOST_CHANNELS:
            net.add(kind, [bottom], (n, height, width, channels), params, lambda x, w: x[0].transpose(0, 2, 3, 1))
    elif kind == "ShuffleChannel":
        group = draw(st.sampled_from([g for g in range(1, channels + 1) if channels % g == 0]))
        net.add(kind, [bottom], (n, channels, height, width), f"shuffle_channel_param {{ group: {group} }}")
    elif kind == "Reshape":
        shape = "reshape_param { shape { dim: 0 dim: -1 dim: 1 dim: 0 } axis: 0 }"
        if channels * height <= MOST_CHANNELS:
            net.add(kind, [bottom], (n, channels * height, 1, width), shape)
    elif n * channels * height * width * 4 <= MOST_CELLS:
        if kind == "Upsample":
            net.add(kind, [bottom], (n, channels, 2 * height, 2 * width), "upsample_param { scale: 2 }")
        elif kind == "Interp":
            top = (n, channels, 2 * height - 1, 2 * width - 1)
            net.add(kind, [bottom], top, "interp_param { zoom_factor: 2 }")
        else:
            params = "convolution_param { num_output: 2 kernel_size: 2 stride: 2 }"
            net.add(kind, [bottom], (n, 2, 2 * height, 2 * width), params)


def classify(draw: DrawFn, net: Net) -> None:
    """An inner product, with Softmax or without."""
    bottom = draw(st.sampled_from(list(net.shapes)))
    n, *rest = net.shapes[bottom]
    if prod(rest) > MOST_CELLS:
        return
    outputs = draw(st.integers(1, 5))
    params = f"inner_product_param {{ num_output: {outputs} }}"
    top = net.add("InnerProduct", [bottom], (n, outputs), params, lambda x, w: x[0].reshape(n, -1) @ w[0].T + w[1])
    if draw(st.booleans()):
        net.add("Softmax", [top], (n, outputs), "", None, top if draw(st.booleans()) else "")


STEPS = [keep, keep, keep, convolve, convolve, pool, merge, merge, gate, move, classify]


@st.composite
def nets(draw: DrawFn) -> Net:
    """A network of a few layers behind one input."""
    shape = (draw(st.integers(1, 2)), draw(st.integers(1, 4)), draw(st.integers(1, 7)), draw(st.integers(1, 7)))
    net = Net()
    dims = " ".join(f"dim: {dim}" for dim in shape)
    net.text = f'layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ {dims} }} }} }}\n'
    net.shapes["data"] = shape
    for step in draw(st.lists(st.sampled_from(STEPS), min_size=2, max_size=9)):
        step(draw, net)
    if net.text.count("layer {") == 1 + net.text.count('"Dropout"'):
        net.add("ReLU", ["data"], shape)  # what does nothing at inference is no network
    return net
