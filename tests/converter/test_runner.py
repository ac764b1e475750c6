from __future__ import annotations

import pickle
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import get_origin, get_type_hints

import pytest
import torch

from senet_convert.converter.graph.graph import Graph
from senet_convert.converter.layers import LAYERS
from senet_convert.converter.runner import GraphModule, lower
from tests.nets import INPUT, write


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    return write(tmp_path).graph()


def test_every_value_is_given_in_order(graph: Graph) -> None:
    steps = list(lower(graph).steps(torch.zeros(2, 3, 12, 10)))
    assert [name for name, _ in steps] == ["data", *(name for node in graph.nodes for name in node.outputs)]
    assert all(tuple(value.shape) == graph.shapes[name] for name, value in steps)


def test_float64_is_computed_in_float64_from_the_same_weights(graph: Graph) -> None:
    module = lower(graph)
    x = torch.randn(2, 3, 12, 10, generator=torch.Generator().manual_seed(0))
    exact, plain = module(x.double()), module(x)
    assert exact.dtype == torch.float64
    assert 0 < (exact - plain).abs().max() < 1e-5
    assert next(iter(module.parameters())).dtype == torch.float32


def test_weights_share_the_memory_of_the_graph(graph: Graph) -> None:
    module = lower(graph)
    assert module.weights["fc/weight"].data_ptr() == graph.accounts.arrays["fc/weight"].ctypes.data


def test_only_learned_weights_ask_for_gradients(graph: Graph) -> None:
    module = lower(graph)
    module(torch.zeros(2, 3, 12, 10)).sum().backward()
    frozen = {name for name, weight in module.named_parameters() if not weight.requires_grad}
    assert frozen == {"weights.bn/mean", "weights.bn/variance"}
    assert module.weights["conv/weight"].grad is not None


def test_several_outputs_are_a_tuple_in_the_graphs_order(tmp_path: Path) -> None:
    text = INPUT + "".join(f'layer {{ name: "{n}" type: "ReLU" bottom: "data" top: "{n}" }}\n' for n in ("b", "a"))
    outputs = lower(write(tmp_path, text).graph())(torch.zeros(2, 3, 12, 10))
    assert isinstance(outputs, tuple)
    assert len(outputs) == 2


def test_layer_names_with_dots_get_parameters(tmp_path: Path) -> None:
    text = INPUT + "".join(
        f'layer {{ name: "{name}" type: "InnerProduct" bottom: "data" top: "{name}"\n'
        "inner_product_param { num_output: 2 } }\n"
        for name in ("fc.1", "fc_1")
    )
    module = lower(write(tmp_path, text).graph())
    assert len(dict(module.named_parameters())) == 4
    assert len(set(module.names.values())) == 4


def test_adjusted_values_are_what_later_layers_see(graph: Graph) -> None:
    zero = dict(lower(graph).steps(torch.ones(2, 3, 12, 10), adjust=lambda _, top: torch.zeros_like(top)))
    assert zero["prob"].abs().max() == 0


def test_another_number_of_inputs_is_told(tmp_path: Path) -> None:
    text = INPUT + INPUT.replace('"data"', '"more"')
    text += 'layer { name: "sum" type: "Eltwise" bottom: "data" bottom: "more" top: "sum" }'
    with pytest.raises(TypeError, match=r"the network takes 2 inputs \(data, more\), 1 were given"):
        lower(write(tmp_path, text).graph())(torch.zeros(2, 3, 12, 10))


INPUTS = "".join(
    f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {dims} }} }} }}\n'
    for name, dims in {"x": "dim: 1 dim: 4", "y": "dim: 1 dim: 2", "z": "dim: 1 dim: 2 dim: 4"}.items()
)
WITH_MESSAGES = {
    "Reshape": INPUT
    + 'layer { name: "l" type: "Reshape" bottom: "data" top: "l" reshape_param { shape { dim: 0 dim: -1 } } }',
    "Parameter": INPUT
    + 'layer { name: "l" type: "Parameter" top: "l" parameter_param { shape { dim: 2 dim: 3 dim: 12 dim: 10 } } }\n'
    + 'layer { name: "s" type: "Eltwise" bottom: "data" bottom: "l" top: "s" }',
    "DetectionOutput": INPUTS
    + 'layer { name: "l" type: "DetectionOutput" bottom: "x" bottom: "y" bottom: "z" top: "l"\n'
    + "detection_output_param { num_classes: 2 nms_param { nms_threshold: 0.4 top_k: 9 } confidence_threshold: 0.1 } }",
}


def test_every_layer_that_holds_a_message_is_tried() -> None:
    hints = [(name, hint) for name, kind in LAYERS.items() for hint in get_type_hints(kind).values()]
    assert {name for name, hint in hints if get_origin(hint) is Mapping} == set(WITH_MESSAGES)


@pytest.mark.parametrize("kind", WITH_MESSAGES)
def test_modules_are_copied_and_pickled(tmp_path: Path, kind: str) -> None:
    module = lower(write(tmp_path, WITH_MESSAGES[kind]).graph())
    torch.save(module, tmp_path / "module.pt")
    copies: list[GraphModule] = [
        deepcopy(module),
        pickle.loads(pickle.dumps(module)),
        torch.load(tmp_path / "module.pt", weights_only=False),
    ]
    random = torch.Generator().manual_seed(0)
    inputs = [torch.rand(module.graph.shapes[name], generator=random) for name in module.graph.inputs]
    for copied in copies:
        assert copied.graph.nodes == module.graph.nodes
        assert all(map(torch.equal, copied.state_dict().values(), module.state_dict().values()))
        torch.testing.assert_close(copied(*inputs), module(*inputs), rtol=0, atol=0)
