from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from senet_convert.converter.families import Tap, run_with_taps


class _Shared(nn.Module):
    """Calls one module twice."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        pooled: Tensor = self.pool(self.relu(self.relu(x) - 1))
        return pooled


TAPS = {
    "first": Tap("relu"),
    "second": Tap("relu", 1),
    "before": Tap("relu", 1, entering=True),
    "pooled": Tap("pool"),
    "flat": Tap("pool", flat=True),
}


def test_taps_give_inputs_and_outputs_of_each_call_in_order() -> None:
    x = torch.tensor([[[[-1.0, 3.0]]]])
    seen: dict[str, Tensor] = {}
    out = run_with_taps(_Shared(), TAPS, x, seen.__setitem__)
    assert list(seen) == ["first", "before", "second", "pooled", "flat"]
    assert {name: tensor.flatten().tolist() for name, tensor in seen.items()} == {
        "first": [0, 3],
        "before": [-1, 2],
        "second": [0, 2],
        "pooled": [1],
        "flat": [1],
    }
    assert seen["flat"].shape == (1, 1)
    assert out is seen["pooled"]


def test_hooks_are_gone_after_a_failure() -> None:
    net = _Shared()

    def fail(value: str, tensor: Tensor) -> None:
        raise KeyError(value)

    with pytest.raises(KeyError, match="first"):
        run_with_taps(net, TAPS, torch.zeros(1, 1, 2, 2), fail)
    for module in net.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    run_with_taps(net, {}, torch.zeros(1, 1, 2, 2), fail)
