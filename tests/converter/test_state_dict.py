from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from senet_convert.converter.state_dict import read_state, write_state
from senet_convert.errors import ReadError, WeightsError

CONV = nn.Conv2d(3, 4, 2)
NET = nn.Sequential(OrderedDict[str, nn.Module](conv=CONV, bn=nn.BatchNorm2d(4)))
NAMES = ["bn.bias", "bn.running_mean", "bn.running_var", "bn.weight", "conv.bias", "conv.weight"]


def read(folder: Path, value: Any) -> dict[str, Any]:
    torch.save(value, folder / "net.pth")
    state, warnings = read_state(folder / "net.pth")
    assert warnings == ()
    return dict(state)


def test_safetensors_and_torch_files_give_the_same(tmp_path: Path) -> None:
    safetensors.torch.save_file(NET.state_dict(), tmp_path / "net.safetensors")
    one, warnings = read_state(tmp_path / "net.safetensors")
    assert warnings == ()
    assert sorted(one) == NAMES
    for other in (read(tmp_path, NET.state_dict()), read(tmp_path, {"state_dict": NET.state_dict(), "epoch": 3})):
        assert sorted(other) == NAMES
        assert all(one[name].tobytes() == other[name].tobytes() for name in NAMES)
    assert one["conv.weight"].tobytes() == CONV.weight.detach().numpy().tobytes()


def test_what_is_written_is_what_the_library_writes(tmp_path: Path) -> None:
    state = {
        **NET.state_dict(),
        'ä/"q"\\\n': torch.arange(40_000.0),
        "none": torch.empty(0, 3),
        "a": torch.tensor(-0.0),
    }
    write_state(state, tmp_path / "own.safetensors")
    safetensors.torch.save_file(state, tmp_path / "library.safetensors", metadata={"format": "pt"})
    assert (tmp_path / "own.safetensors").read_bytes() == (tmp_path / "library.safetensors").read_bytes()


def test_shared_and_turned_tensors_are_written_whole(tmp_path: Path) -> None:
    tensor = torch.arange(6.0).reshape(2, 3)
    write_state({"one": tensor, "two": tensor, "turned": tensor.t()}, tmp_path / "net.safetensors")
    found = safetensors.torch.load_file(tmp_path / "net.safetensors")
    assert found["one"].equal(tensor) and found["two"].equal(tensor) and found["turned"].equal(tensor.t())


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod."])
def test_names_that_wrappers_prefix_are_the_nets_own(tmp_path: Path, wrapper: str) -> None:
    wrapped = {f"{wrapper}{name}": value for name, value in NET.state_dict().items()}
    assert sorted(read(tmp_path, wrapped)) == NAMES
    assert "module.a" in read(tmp_path, {"module.a": torch.ones(1), "b": torch.ones(1)})


def test_narrower_floats_are_exact_and_wider_ones_rounded(tmp_path: Path) -> None:
    values = torch.tensor([0.1, -3.0, 1e-7])
    found = read(tmp_path, {"half": values.half(), "brain": values.bfloat16(), "turned": torch.ones(2, 3).t()})
    assert found["half"].tobytes() == values.half().float().numpy().tobytes()
    assert found["brain"].tobytes() == values.bfloat16().float().numpy().tobytes()
    assert (found["turned"].shape, found["turned"].flags.c_contiguous) == ((3, 2), True)
    safetensors.torch.save_file({"w": values.double() + 1e-12}, tmp_path / "wide.safetensors")
    state, warnings = read_state(tmp_path / "wide.safetensors")
    assert warnings == (f"{tmp_path / 'wide.safetensors'}: 1 weights were rounded from float64 to float32",)
    assert state["w"].dtype == np.float32


def test_integers_are_refused_but_for_torchs_counter(tmp_path: Path) -> None:
    torch.save({"bn.num_batches_tracked": torch.tensor(3), "w": torch.ones(2, dtype=torch.int8)}, tmp_path / "q.pt")
    with pytest.raises(WeightsError, match=r"q\.pt: 'w' is of type int8, not floating-point\n.*dequantised"):
        read_state(tmp_path / "q.pt")


def test_what_is_no_state_dict_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not weights, but long enough to hold a header of safetensors")
    with pytest.raises(ReadError, match=r"neither a safetensors file nor one that torch.save wrote"):
        read_state(tmp_path / "text")
    torch.save(NET, tmp_path / "whole.pth")
    with pytest.raises(ReadError, match=r"whole\.pth: not a file of weights only: .*Save the state_dict"):
        read_state(tmp_path / "whole.pth")
    torch.save([torch.ones(1)], tmp_path / "list.pth")
    with pytest.raises(ReadError, match="does not hold a state_dict"):
        read_state(tmp_path / "list.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "list.pth").read_bytes()[:300])
    with pytest.raises(ReadError, match=r"cut\.pth: not a file of weights only"):
        read_state(tmp_path / "cut.pth")
