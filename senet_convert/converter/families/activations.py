"""Where the values of a Caffe graph appear inside a PyTorch module, and a run that hands them out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


@dataclass(frozen=True)
class Tap:
    """A tensor at one call of a submodule within a forward pass.

    entering  the call's input rather than its output
    flat      without the spatial axes of length 1: (N, C) for the module's (N, C, 1, 1)
    """

    module: str
    call: int = 0
    entering: bool = False
    flat: bool = False


def run_with_taps(net: nn.Module, taps: Mapping[str, Tap], x: Tensor, sink: Callable[[str, Tensor], None]) -> Tensor:
    """net(x), with `sink(value, tensor)` for every tap in the order of computation; nothing is kept."""
    places: defaultdict[tuple[str, bool], dict[str, Tap]] = defaultdict(dict)
    for value, tap in taps.items():
        places[tap.module, tap.entering][value] = tap
    hooks: list[RemovableHandle] = []
    try:
        for (path, entering), here in places.items():
            listener = _Listener(here, sink)
            module = net.get_submodule(path)
            add = module.register_forward_pre_hook if entering else module.register_forward_hook
            hooks.append(add(listener))
        logits: Tensor = net(x)
    finally:
        for hook in hooks:
            hook.remove()
    return logits


class _Listener:
    """A forward hook, or pre-hook, of one module: counts its calls and hands out the tensors of its taps."""

    def __init__(self, taps: Mapping[str, Tap], sink: Callable[[str, Tensor], None]) -> None:
        self.taps = taps
        self.sink = sink
        self.calls = 0

    def __call__(self, _: nn.Module, inputs: tuple[Tensor, ...], output: Tensor | None = None) -> None:
        tensor = inputs[0] if output is None else output
        for value, tap in self.taps.items():
            if tap.call == self.calls:
                self.sink(value, tensor.flatten(1) if tap.flat else tensor)
        self.calls += 1
