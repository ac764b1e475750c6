from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from senet_convert.deploy.serve.models import tensors
from senet_convert.deploy.serve.models.errors import InvalidInput
from senet_convert.deploy.serve.models.inference import BYTES, Output
from senet_convert.deploy.serve.models.served import DATATYPES, FREE, Spec

TYPES = pytest.mark.parametrize("datatype", DATATYPES)


@TYPES
@given(st.data())
def test_bytes_and_back(datatype: str, data: st.DataObject) -> None:
    """Wherever in a body the bytes begin."""
    spec = Spec("x", datatype, (FREE, FREE))
    value = data.draw(arrays.arrays(spec.dtype, arrays.array_shapes(min_dims=2, max_dims=2, max_side=5)))
    before = data.draw(st.binary(max_size=9))
    raw = tensors.to_bytes(Output("x", datatype, value))
    found = tensors.from_bytes(spec, value.shape, before + raw + b"after", len(before), len(raw))
    assert found.dtype == value.dtype
    assert found.flags.aligned
    assert found.tobytes() == value.tobytes()


def test_bytes_are_not_copied() -> None:
    body = bytes(24)
    found = tensors.from_bytes(Spec("x", "UINT8", (FREE,)), (20,), body, 3, 20)
    assert np.shares_memory(found, np.frombuffer(body, np.uint8))


@TYPES
@pytest.mark.parametrize("change", [-1, 1])
def test_wrong_byte_counts_say_what_is_needed(datatype: str, change: int) -> None:
    spec = Spec("x", datatype, (FREE, 3))
    needed = 6 * spec.dtype.itemsize
    with pytest.raises(InvalidInput, match=rf"'x' {datatype}.*takes {needed} bytes.*{needed + change} were given"):
        tensors.from_bytes(spec, (2, 3), bytes(needed + change))


def test_sizes_beyond_64_bits_are_refused_without_memory() -> None:
    with pytest.raises(InvalidInput, match=str(4 * (2**62) ** 2)):
        tensors.from_bytes(Spec("x", "FP32", (FREE, FREE)), (2**62, 2**62), b"")


def test_a_bool_is_0_or_1() -> None:
    spec = Spec("x", "BOOL", (FREE,))
    assert tensors.from_bytes(spec, (2,), b"\x00\x01").tolist() == [False, True]
    with pytest.raises(InvalidInput, match="0 or 1"):
        tensors.from_bytes(spec, (2,), b"\x00\x02")


def test_strings_carry_their_lengths() -> None:
    words = np.array([[b"a", b""], ["é".encode(), b"four"]], object)
    found = tensors.to_bytes(Output("x", BYTES, words))
    assert found == b"".join(struct.pack("<I", len(word)) + word for word in (b"a", b"", b"\xc3\xa9", b"four"))
