"""What a person's own file brings; packages and commands stand in test_custom_layers.py."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from senet_convert.converter.layers import LAYERS
from senet_convert.converter.layers.activation import ReLU
from senet_convert.converter.layers.registry import from_file, merged
from senet_convert.errors import ConvertError

TEXT = """
from dataclasses import dataclass
from senet_convert.converter.layers import Layer
from senet_convert.converter.layers.activation import ReLU

class _Base(Layer):
    '''No layer type itself: it lacks everything.'''

@dataclass(frozen=True)
class Mine(ReLU):
    pass

class Helper:
    pass
"""


def own_modules() -> set[str]:
    return {name for name in sys.modules if name.startswith("senet_convert_layers_")}


def test_a_file_brings_its_public_layers_only(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(TEXT)
    found = from_file(tmp_path / "own.py")
    assert list(found) == ["Mine"]
    assert issubclass(found["Mine"], ReLU)
    assert found["Mine"].__module__ in own_modules()


def test_a_file_that_cannot_be_imported_leaves_nothing_behind(tmp_path: Path) -> None:
    before = own_modules()
    (tmp_path / "own.py").write_text(TEXT + "\nraise ValueError('half way')\n")
    with pytest.raises(ConvertError, match=r"own\.py:16: the file cannot be imported: ValueError: half way"):
        from_file(tmp_path / "own.py")
    assert own_modules() == before
    (tmp_path / "own.py").write_text(TEXT)  # put right, in the same process
    assert list(from_file(tmp_path / "own.py")) == ["Mine"]


def test_every_type_that_is_defined_twice_is_named() -> None:
    before = dict(LAYERS)
    with pytest.raises(ConvertError) as caught:
        merged((), {"Pooling": ReLU, "Mine": ReLU, "Split": ReLU}, ["Split"])
    lines = str(caught.value).splitlines()
    assert [line.partition(" comes")[0] for line in lines] == ["layer type 'Pooling'", "layer type 'Split'"]
    assert before == LAYERS
    assert merged((), {"Mine": ReLU}) == {**LAYERS, "Mine": ReLU}
    assert before == LAYERS
