"""How often the check is wrong: `python -m fuzz.check_rates --count 10000`.

Random networks of many kinds are built, exported and checked. Of honest engines none may be refused: `refused` counts
those that are, with the upper end of a 95 % interval (Clopper and Pearson's, by the rule of three where there is none).
Then one fault is put into each network's ONNX file. It counts where it shows at all: on some blob its effect in exact
arithmetic is more than `ABOVE` times the error that float32 arithmetic makes there in onnxruntime; `missed` are those
that the check lets pass all the same. Networks are drawn by their number, so that any of them can be looked at alone.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod, sqrt
from pathlib import Path

import numpy as np
import onnx as onnx_package
import torch
from numpy.typing import NDArray

from senet_convert.converter.check.compare import Check, Subject, compare
from senet_convert.converter.export import onnx
from senet_convert.converter.graph.build import build
from senet_convert.converter.graph.graph import Graph
from senet_convert.converter.layers.combine import Axpy
from senet_convert.converter.layers.convolution import Convolution
from senet_convert.converter.layers.normalise import BatchNorm
from senet_convert.converter.layers.pooling import Pooling
from senet_convert.converter.runner import lower, to_tensors
from senet_convert.proto import Blob, LayerDef, NetDef, read_prototxt

Random = np.random.Generator
Array = NDArray[np.float32]

ABOVE = 8.0  # times float32's own error, from where on a fault shows
LEAST = 5e-7  # float32's own error is at least this
FACTOR = 0.9  # BatchNorm's third blob


@dataclass
class Draft:
    """A prototxt that grows; `gain` is what weights are multiplied with besides the usual."""

    random: Random
    text: str = ""
    layers: int = 0
    gains: dict[str, float] | None = None

    def add(self, kind: str, bottoms: Sequence[str], params: str = "", gain: float = 1.0) -> str:
        """One layer of its own top."""
        self.layers += 1
        name = f"{kind.lower()}{self.layers}"
        edges = " ".join(f'bottom: "{bottom}"' for bottom in bottoms)
        self.text += f'layer {{ name: "{name}" type: "{kind}" {edges} top: "{name}" {params} }}\n'
        self.gains = {**(self.gains or {}), name: gain}
        return name

    def conv(self, x: str, outputs: int, kernel: int = 3, gain: float = 1.0, more: str = "") -> str:
        """A convolution that keeps the map's size."""
        sizes = f"num_output: {outputs} kernel_size: {kernel} pad: {kernel // 2} {more}"
        return self.add("Convolution", [x], f"convolution_param {{ {sizes} }}", gain)

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


def saturated(draft: Draft, x: str) -> str:
    """SE blocks whose gates are nearly all 0 or 1, behind large sums."""
    channels = int(draft.random.integers(4, 33))
    for _ in range(draft.random.integers(1, 4)):
        leaky = "relu_param { negative_slope: 0.1 }"
        x = draft.add("ReLU", [draft.conv(x, channels, 3, float(draft.random.choice([1, 5, 30])))], leaky)
        gated = draft.gate(x, channels, float(draft.random.choice([1, 4, 20])))
        x = draft.add("Axpy", [gated, x, x])
    return draft.conv(x, int(draft.random.integers(1, 4)))


def residual(draft: Draft, x: str) -> str:
    """A deep residual network with SE blocks."""
    channels = int(draft.random.choice([4, 8, 16]))
    x = draft.normed(draft.conv(x, channels))
    for _ in range(draft.random.integers(3, 9)):
        group = int(draft.random.choice([1, 2, 4]))
        y = draft.normed(draft.conv(x, channels, 3, 1.0, f"group: {group} bias_term: false"))
        y = draft.add("BatchNorm", [draft.conv(y, channels)])
        x = draft.add("ReLU", [draft.add("Axpy", [draft.gate(y, channels, 1.0), y, x])])
    return few(draft, x)


def few(draft: Draft, x: str) -> str:
    """A classifier of few outputs behind a padded average and a pooling that rounds up."""
    x = draft.add("Pooling", [x], "pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }")
    x = draft.add("Pooling", [x], "pooling_param { pool: MAX kernel_size: 3 stride: 2 }")
    x = draft.add("InnerProduct", [x], f"inner_product_param {{ num_output: {draft.random.integers(1, 6)} }}", 3.0)
    return draft.add("Softmax", [x]) if draft.random.random() < 0.5 else x


def plain(draft: Draft, x: str) -> str:
    """Convolutions, poolings and a classifier."""
    for _ in range(draft.random.integers(1, 4)):
        x = draft.add("ReLU", [draft.conv(x, int(draft.random.integers(2, 17)))])
    return few(draft, x)


def cancelling(draft: Draft, x: str) -> str:
    """Sums of nearly equal values."""
    a = draft.conv(x, 6)
    b = draft.add("Power", [a], "power_param { scale: 1.0009765625 shift: 0.001 }")
    y = draft.add("Eltwise", [a, b], "eltwise_param { coeff: 1 coeff: -1 }")
    return few(draft, draft.normed(y))


KINDS: tuple[Callable[[Draft, str], str], ...] = (saturated, saturated, residual, plain, cancelling)
SCALES = (1.0, 1.0, 255.0)  # of the input: 255 for networks that are fed 0..255 in place of 0..1


def drawn(number: int, folder: Path) -> tuple[Graph, dict[str, Array]]:
    """A network and its input."""
    random = np.random.default_rng(number)
    side, images = int(random.integers(8, 25)), int(random.integers(1, 3))
    draft = Draft(random)
    draft.text = f'layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: {images} dim: 3 '
    draft.text += f"dim: {side} dim: {side} }} }} }}\n"
    KINDS[number % len(KINDS)](draft, "data")
    path = folder / "net.prototxt"
    path.write_text(draft.text, encoding="utf-8")
    net = read_prototxt(path)
    graph = build(net, _weights(net, random, draft.gains or {}))
    scale = float(random.choice(SCALES))
    return graph, {"data": (scale * random.random((images, 3, side, side))).astype(np.float32)}


def _weights(net: NetDef, random: Random, gains: dict[str, float]) -> NetDef:
    """Random blobs of the sizes that trained ones have: He's for weights."""
    layers = []
    for want in build(net, None).wanted:
        blobs = []
        for i, shape in enumerate(want.shapes):
            spread = gains[want.name] * np.sqrt(2 / prod(shape[1:])) if i == 0 and len(shape) > 1 else 0.1
            blobs.append(random.normal(0, spread, shape).astype("<f4"))
        if isinstance(want.layer, BatchNorm):
            blobs[1] = (random.random(want.shapes[1]) + 10 ** random.uniform(-4, 0)).astype("<f4")
            blobs[2] = np.full(1, FACTOR, "<f4")
        shaped = zip(want.shapes, blobs, strict=True)
        layers.append(LayerDef(want.name, "", blobs=tuple(Blob(shape, blob.reshape(-1)) for shape, blob in shaped)))
    return NetDef("", net.source, tuple(layers))


# ---- faults ----------------------------------------------------------------------------------------------------------


def _nodes_of(graph: Graph, kind: type) -> list[int]:
    return [i for i, node in enumerate(graph.nodes) if type(node.layer) is kind]


def _with_node(graph: Graph, i: int, **changes: object) -> Graph:
    nodes = list(graph.nodes)
    nodes[i] = replace(nodes[i], **changes)  # type: ignore[arg-type]
    return replace(graph, nodes=tuple(nodes))


def _with_array(graph: Graph, key: str, change: Callable[[Array], Array]) -> Graph:
    arrays = {**graph.accounts.arrays, key: change(np.array(graph.accounts.arrays[key]))}
    return replace(graph, accounts=replace(graph.accounts, arrays=arrays))


def axpy_swapped(graph: Graph, random: Random) -> Graph | None:
    """a·y + x in place of a·x + y."""
    found = _nodes_of(graph, Axpy)
    if not found:
        return None
    i = int(random.choice(found))
    a, x, y = graph.nodes[i].inputs
    return _with_node(graph, i, inputs=(a, y, x))


def floor_for_ceil(graph: Graph, random: Random) -> Graph | None:
    """Poolings round down."""
    found = [i for i in _nodes_of(graph, Pooling) if not graph.nodes[i].layer.global_pooling]  # type: ignore[attr-defined]
    if not found:
        return None
    i = int(random.choice(found))
    return _with_node(graph, i, layer=replace(graph.nodes[i].layer, round_mode="FLOOR"))  # type: ignore[call-arg]


def eps(graph: Graph, random: Random) -> Graph | None:
    """1e-3 in place of 1e-5."""
    found = _nodes_of(graph, BatchNorm)
    if not found:
        return None
    i = int(random.choice(found))
    return _with_node(graph, i, layer=replace(graph.nodes[i].layer, eps=1e-3))  # type: ignore[call-arg]


def factor_ignored(graph: Graph, random: Random) -> Graph | None:
    """BatchNorm's statistics as the file has them."""
    found = _nodes_of(graph, BatchNorm)
    if not found:
        return None
    changed = graph
    for key in graph.nodes[int(random.choice(found))].weights:
        changed = _with_array(changed, key, lambda array: array * np.float32(FACTOR))
    return changed


def _convolution(graph: Graph, random: Random) -> str | None:
    found = [graph.nodes[i].weights[0] for i in _nodes_of(graph, Convolution)]
    return str(random.choice(found)) if found else None


def weight_off(graph: Graph, random: Random) -> Graph | None:
    """One weight, of the larger half, by a thousandth."""
    key = _convolution(graph, random)

    def change(array: Array) -> Array:
        flat = array.reshape(-1)
        large = np.flatnonzero(np.abs(flat) >= np.median(np.abs(flat)))
        flat[random.choice(large)] *= np.float32(1.001)
        return array

    return _with_array(graph, key, change) if key else None


def channels_swapped(graph: Graph, random: Random) -> Graph | None:
    """Two outputs of a convolution exchanged."""
    key = _convolution(graph, random)
    if key is None or len(graph.accounts.arrays[key]) < 2:
        return None
    a, b = random.choice(len(graph.accounts.arrays[key]), 2, replace=False)
    order = np.arange(len(graph.accounts.arrays[key]))
    order[[a, b]] = order[[b, a]]
    return _with_array(graph, key, lambda array: array[order])


def rgb(graph: Graph, _: Random) -> Graph | None:
    """The first convolution's inputs the other way round."""
    first = next((graph.nodes[i] for i in _nodes_of(graph, Convolution) if "data" in graph.nodes[i].inputs), None)
    return _with_array(graph, first.weights[0], lambda array: array[:, ::-1].copy()) if first else None


def bias_missing(graph: Graph, random: Random) -> Graph | None:
    """A convolution without its bias."""
    found = [graph.nodes[i].weights[1] for i in _nodes_of(graph, Convolution) if len(graph.nodes[i].weights) > 1]
    return _with_array(graph, str(random.choice(found)), np.zeros_like) if found else None


def groups_reversed(graph: Graph, random: Random) -> Graph | None:
    """The groups of a convolution in another order."""
    nodes = [graph.nodes[i] for i in _nodes_of(graph, Convolution) if graph.nodes[i].layer.group > 1]  # type: ignore[attr-defined]
    if not nodes:
        return None
    node = nodes[int(random.integers(len(nodes)))]
    group = node.layer.group  # type: ignore[attr-defined]
    return _with_array(graph, node.weights[0], lambda array: np.concatenate(np.split(array, group)[::-1]))


FAULTS: tuple[Callable[[Graph, Random], Graph | None], ...] = (
    axpy_swapped,
    floor_for_ceil,
    eps,
    factor_ignored,
    weight_off,
    channels_swapped,
    rgb,
    bias_missing,
    groups_reversed,
)


def pad_not_counted(path: Path) -> bool:
    """The padding of an average is left out of its divisor, in the ONNX file. False where there is none."""
    model = onnx_package.load(path)
    changed = False
    for node in model.graph.node:
        if node.op_type != "AveragePool":
            continue
        for attribute in node.attribute:
            if attribute.name == "count_include_pad" and attribute.i:
                attribute.i, changed = 0, True
    onnx_package.save(model, path)
    return changed


# ---- the two rates ---------------------------------------------------------------------------------------------------


def written(graph: Graph, exported: Graph, folder: Path) -> Path:
    """The ONNX file of `exported`, with every blob of `graph`."""
    path = folder / "net.onnx"
    onnx.export(exported, outputs=onnx.all_blobs(graph)).write(path)
    return path


def checked(graph: Graph, path: Path, inputs: dict[str, Array]) -> Check:
    """The check of an ONNX file."""
    runner = lower(graph)
    return compare(Subject(graph, runner, None, runner, path, path), inputs, "random values")


def passes(graph: Graph, other: Graph, inputs: dict[str, Array], folder: Path) -> bool:
    """Does the check overlook a fault? Not where the file cannot even be run."""
    try:
        return not checked(graph, written(graph, other, folder), inputs).faults
    except Exception:  # onnxruntime raises a class for each kind of fault, without a common base
        return False


def shows(graph: Graph, other: Graph, inputs: dict[str, Array], honest: Check) -> bool:
    """Is a fault's effect, in exact arithmetic, above float32's own error on some blob?

    Not asked of networks that cannot even be run with the fault, which nobody overlooks.
    """
    own = {blob.blob: max(LEAST, *blob.errors.values()) for blob in honest.blobs}
    tensors = to_tensors(graph, inputs, torch.float64)
    try:
        with torch.inference_mode():
            right = {value: top.numpy() for value, top in lower(graph).steps(*tensors)}
            wrong = {value: top.numpy() for value, top in lower(other).steps(*tensors)}
    except RuntimeError:  # sizes that do not fit
        return False
    for blob, value in graph.blobs.items():
        if blob not in own or value not in wrong:
            continue
        if wrong[value].shape != right[value].shape:
            return True
        scale = float(np.abs(right[value]).max()) or 1.0
        if float(np.abs(wrong[value] - right[value]).max()) / scale > ABOVE * own[blob]:
            return True
    return False


def upper(count: int, total: int) -> float:
    """The upper end of a 95 % interval for a rate, near enough: the rule of three for none."""
    return (count + 3.0 + 1.9 * sqrt(count)) / max(1, total)


def main() -> None:
    """Draw, check, count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="number of the first network")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long")
    parser.add_argument("--no-faults", action="store_true", help="only honest engines")
    args = parser.parse_args()
    torch.set_num_threads(1)
    ends = time.monotonic() + args.seconds
    honest, kinds, refused = Counter[str](), [], 0
    shown, missed = Counter[str](), Counter[str]()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for number in range(args.first, args.first + args.count):
            if time.monotonic() > ends:
                break
            graph, inputs = drawn(number, folder)
            check = checked(graph, written(graph, graph, folder), inputs)
            kind = KINDS[number % len(KINDS)].__name__
            honest[kind] += 1
            if check.faults:
                refused += 1
                kinds.append(kind)
                print(f"refused: network {number} ({kind}): {check.faults[0]}", flush=True)
            if args.no_faults:
                continue
            random = np.random.default_rng(number)
            for fault in FAULTS:
                other = fault(graph, random)
                if other is None or not shows(graph, other, inputs, check):
                    continue
                shown[fault.__name__] += 1
                if passes(graph, other, inputs, folder):
                    missed[fault.__name__] += 1
                    print(f"missed: network {number} ({kind}): {fault.__name__}", flush=True)
            path = written(graph, graph, folder)
            if pad_not_counted(path):
                shown["pad_not_counted"] += 1
                missed["pad_not_counted"] += not checked(graph, path, inputs).faults
    total = sum(honest.values())
    print(f"honest networks: {total}, refused: {refused}, at most {upper(refused, total):.1e} of all (95 %)")
    for kind, count in honest.items():
        print(f"  {kind:20} {count:7}, refused {kinds.count(kind)}")
    for name, count in shown.items():
        print(f"fault {name:20} shows in {count:6}, missed {missed[name]}")


if __name__ == "__main__":
    main()
