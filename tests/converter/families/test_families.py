"""Recognition, weights and activations together, on networks that Caffe itself has run."""

from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from senet_convert.converter.families import FAMILIES, Match, build, match, run_with_taps
from senet_convert.converter.graph.build import build as build_graph
from senet_convert.converter.graph.graph import Graph
from senet_convert.converter.layers.pooling import Pooling
from senet_convert.converter.network import realise
from senet_convert.converter.runner import GraphModule, lower
from senet_convert.proto import LayerDef, NetDef, read_caffemodel, read_prototxt
from tests.paths import GOLDEN

from . import configs
from .caffe_nets import inception_net, residual_net

CASES = {
    "se_resnet": ("SE-ResNet", 36),
    "se_resnext": ("SE-ResNeXt", 36),
    "senet154_style": ("SENet", 31),
    "se_bn_inception": ("SE-BN-Inception", 35),
}
WRITTEN = {
    "residual": residual_net(configs.RESNET, 1),
    "odd residual": residual_net(configs.ODD_RESNET, 1),
    "grouped": residual_net(configs.RESNEXT, 2),
    "three convolutions": residual_net(configs.SENET, 2),
    "inception": inception_net(configs.INCEPTION),
}


def _golden(case: str) -> Graph:
    weights = read_caffemodel(GOLDEN / case / "net.caffemodel")
    return build_graph(read_prototxt(GOLDEN / case / "deploy.prototxt"), weights)


def _found(graph: Graph) -> Match:
    found = match(graph)
    assert found is not None
    return found


def _error(got: torch.Tensor, want: torch.Tensor) -> float:
    assert got.shape == want.shape
    largest = float(want.abs().max()) or 1.0  # a ReLU may leave nothing
    return float((got.double() - want).abs().max()) / largest


@pytest.mark.parametrize("case", CASES)
def test_every_value_agrees_with_caffe(case: str) -> None:
    graph = _golden(case)
    found = _found(graph)
    family, values = CASES[case]
    assert found.family == family
    with np.load(GOLDEN / case / "inputs.npz") as inputs:
        x = torch.from_numpy(inputs["data"])
    seen: dict[str, torch.Tensor] = {}
    with torch.inference_mode():
        logits = run_with_taps(build(found, graph), found.taps, x, seen.__setitem__)
    untapped = [blob for blob, value in graph.blobs.items() if value not in seen]
    assert untapped == ["prob"]  # the softmax is the caller's
    with np.load(GOLDEN / case / "outputs.npz") as outputs:
        caffe = {blob: torch.from_numpy(outputs[blob]) for blob in outputs.files}
    assert len(caffe) == values
    for blob, value in graph.blobs.items():
        if blob != "prob":
            assert _error(seen[value], caffe[blob].double()) < 5e-5, blob
    assert _error(torch.softmax(logits, 1), caffe["prob"].double()) < 5e-5


@pytest.mark.parametrize("case", CASES)
def test_float32_is_as_exact_as_the_generic_run(case: str) -> None:
    graph = _golden(case)
    found = _found(graph)
    with np.load(GOLDEN / case / "inputs.npz") as inputs:
        x = torch.from_numpy(inputs["data"])
    errors: dict[str, float] = {}
    with torch.inference_mode():
        exact = dict(lower(graph).steps(x.double()))
        generic = {value: _error(got, exact[value]) for value, got in lower(graph).steps(x)}
        run_with_taps(
            build(found, graph), found.taps, x, lambda value, got: errors.update({value: _error(got, exact[value])})
        )
    assert {value: error for value, error in errors.items() if error > max(2e-6, 4 * generic[value])} == {}


@pytest.mark.parametrize("net", WRITTEN.values(), ids=WRITTEN.keys())
def test_values_agree_in_float64(net: NetDef) -> None:
    graph = build_graph(net, net)
    found = _found(graph)
    x = torch.randn(graph.shapes["data"], dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    errors: dict[str, float] = {}
    with torch.inference_mode():
        exact = dict(lower(graph).steps(x))
        run_with_taps(
            build(found, graph).double(),
            found.taps,
            x,
            lambda value, got: errors.update({value: _error(got, exact[value])}),
        )
    assert errors.keys() == found.taps.keys()
    assert list(errors) == [value for value in exact if value in errors]  # in the order of computation
    assert max(errors.values()) < 1e-12
    without_tap = {node.type for node in graph.nodes if node.outputs[0] not in errors}
    assert without_tap == {"BatchNorm", "Softmax"}  # torch has no value between normalisation and its learned half


@pytest.mark.parametrize("case", CASES)
def test_every_weight_lands_once_and_bit_for_bit(case: str) -> None:
    graph = _golden(case)
    found = _found(graph)
    arrays = graph.accounts.arrays
    state = build(found, graph).state_dict()
    counters = {name for name in state if name.endswith("num_batches_tracked")}
    assert found.names.keys() == arrays.keys()
    assert len(set(found.names.values())) == len(found.names)
    assert set(found.names.values()) | counters == state.keys()
    for key, name in found.names.items():
        assert state[name].dtype == torch.float32
        assert state[name].numpy().tobytes() == arrays[key].tobytes()
        assert tuple(state[name].shape) == arrays[key].shape
        assert np.shares_memory(state[name].numpy(), arrays[key])
    assert all(state[name].item() == 0 for name in counters)


def _renamed(net: NetDef) -> NetDef:
    def other(name: str) -> str:
        return f"{zlib.crc32(name.encode()):x}"

    def rename(layer: LayerDef) -> LayerDef:
        bottoms, tops = (tuple(map(other, names)) for names in (layer.bottoms, layer.tops))
        return replace(layer, name=other(layer.name), bottoms=bottoms, tops=tops)

    return replace(net, name="another", layers=tuple(map(rename, net.layers)))


@pytest.mark.parametrize("case", CASES)
def test_renamed_layers_still_match(case: str) -> None:
    weights = read_caffemodel(GOLDEN / case / "net.caffemodel")
    original = _found(build_graph(weights, weights))
    found = _found(build_graph(_renamed(weights), _renamed(weights)))
    assert (found.family, found.config, found.summary) == (original.family, original.config, original.summary)
    assert set(found.names.values()) == set(original.names.values())


@pytest.mark.parametrize("case", CASES)
def test_weights_that_are_not_finite_leave_no_family(case: str) -> None:
    """Its modules are PyTorch's own, and its MaxPool passes on the NaN that Caffe's drops."""
    weights = read_caffemodel(GOLDEN / case / "net.caffemodel")
    first = next(i for i, layer in enumerate(weights.layers) if layer.blobs)
    data = np.append(np.float32(np.nan), weights.layers[first].blobs[0].data[1:])
    blob = replace(weights.layers[first].blobs[0], data=data)
    spoilt = replace(weights.layers[first], blobs=(blob, *weights.layers[first].blobs[1:]))
    graph = build_graph(
        weights, replace(weights, layers=(*weights.layers[:first], spoilt, *weights.layers[first + 1 :]))
    )
    assert match(graph) is None
    assert isinstance(realise(weights, graph).module, GraphModule)
    assert any("no family" in warning for warning in graph.warnings)
    with np.load(GOLDEN / case / "inputs.npz") as inputs, torch.inference_mode():
        values = dict(lower(graph).steps(torch.from_numpy(inputs["data"])))
    pools = [node for node in graph.nodes if isinstance(node.layer, Pooling) and node.layer.pool == "MAX"]
    assert torch.isnan(values[pools[0].inputs[0]]).any()
    assert not torch.isnan(values[pools[0].outputs[0]]).any()


def test_the_module_can_be_trained() -> None:
    graph = _golden("se_resnet")
    net = build(_found(graph), graph)
    assert not net.training
    assert all(parameter.requires_grad for parameter in net.parameters())
    net.train()(torch.randn(graph.shapes["data"])).sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_families_bear_their_names() -> None:
    assert {name: family.net.family for name, family in FAMILIES.items()} == {name: name for name in FAMILIES}
