from __future__ import annotations

import gzip
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from senet_convert.errors import ReadError
from senet_convert.proto import text
from senet_convert.proto.tree import Tree, from_message

from .reference import message_class, plain


def read(folder: Path, source: str | bytes) -> Tree:
    path = folder / "net.prototxt"
    path.write_bytes(source if isinstance(source, bytes) else source.encode())
    return text.read_text(path)[0]


def protobufs(source: str) -> Any:
    """What protobuf's own parser makes of it."""
    return plain(from_message(text_format.Parse(source, message_class()())))


def fails(folder: Path, source: str | bytes) -> str:
    with pytest.raises(ReadError) as caught:
        read(folder, source)
    return str(caught.value)


# ---- as protobuf reads it --------------------------------------------------------------------------------------------

SPELLINGS = {
    "comments": '# first\nname: "a" # second\n#name: "b"\n# last',
    "hash in a string": 'name: "a#b"',
    "single quotes": "name: 'it\"s'",
    "adjacent strings": 'name: "a" \'b\'\n# between\n"c"',
    "escapes": r'name: "\a\b\f\n\r\t\v\\\'\"\101\x41\x4a\7"',
    "unicode escapes": r'name: "\u00e4\U0001F600"',
    "utf-8 as bytes": r'name: "\303\244 \xc3\xa4 ä"',
    "octal stops after three digits": r'name: "\1234"',
    "hex stops after two digits": r'name: "\x414"',
    "empty string": 'name: ""',
    "braces": 'layer { name: "a" } layer{name:"b"}',
    "angle brackets": 'layer < name: "a" input_param < shape < dim: 1 > > >',
    "colon before a message": 'layer: { name: "a" } layer: < name: "b" >',
    "lists": "input_dim: [1, 2,3] input_dim: 4 input_dim: []",
    "lists of strings": "input: ['a' 'b', \"c\"]",
    "lists of messages": "input_shape: [{ dim: 1 }, < dim: [2, 3] >] input_shape []",
    "separators": 'name: "a"; force_backward: true, state { level: 1; stage: "s", }',
    "enum by name and number": "state { phase: TRAIN } layer { phase: 1 pooling_param { pool: 2 } }",
    "bools": "layer { propagate_down: [true, True, t, 1, false, False, f, 0] }",
    "integers": "input_dim: [0, -0, 10, 0x1F, 0Xff, 017, -0x10, -017, -2147483648, 2147483647]",
    "wide integers": "input_shape { dim: [9223372036854775807, -9223372036854775808] }",
    "floats": "layer { loss_weight: [1, 1., .5, 1.5, 1e3, 1E-3, 1.e+2, -1.5, -.5e1, 0.1, 3.4028235e38] }",
    "floats with f": "layer { loss_weight: [1f, 1.5f, .5F, 1e3f, -2f] }",
    "floats that overflow": "layer { loss_weight: [1e39, -1e39, 1e-50, 1e400] }",
    "not finite": "layer { loss_weight: [inf, -inf, Infinity, -infinity, nan, NaN] }",
    "negative zero": "layer { loss_weight: [-0, -0.0, 0] }",
    "blobs as text": "layer { blobs { data: [1, 2.5, 0.1] data: 4 diff: 1 shape { dim: 4 } double_data: 0.1 } }",
    "crlf": 'name: "a"\r\nlayer {\r\n  name: "b" # c\r\n}\r\n',
    "tabs and form feeds": 'name\t:\v"a"\f',
    "no spaces at all": 'name:"a"layer{name:"b"top:"c"}',
    "an empty message": "layer {} state <>",
    "V0": 'layers { layer { name: "c" type: "conv" pool: AVE k: 2 } bottom: "a" }',
    "V1": 'layers { type: CONVOLUTION blobs_lr: 1. param: "w" blob_share_mode: PERMISSIVE }',
}


@pytest.mark.parametrize("source", SPELLINGS.values(), ids=SPELLINGS)
def test_spellings_mean_what_they_mean_to_protobuf(tmp_path: Path, source: str) -> None:
    tree = read(tmp_path, source)
    assert plain(tree) == protobufs(source)
    assert tree.all_faults() == []


# What Caffe's own parser, protobuf's C++, takes beyond the Python one.
BEYOND = {
    "byte order mark": (b'\xef\xbb\xbfname: "a"', {"name": "a"}),
    "question mark": (rb'name: "a\?"', {"name": "a?"}),
    "space behind a minus": (b"input_dim: -  5", {"input_dim": [-5]}),
    "hexadecimal float": (b"layer { loss_weight: [0x10, -0x0] }", {"layer": [{"loss_weight": [16.0, 0.0]}]}),
    "bools as numbers": (b"layer { propagate_down: [0x1, 00] }", {"layer": [{"propagate_down": [True, False]}]}),
    "latin-1 in a comment": (b'# \xe4\nname: "a"', {"name": "a"}),
    "latin-1 in names": (rb'input: "\344" input: "' + b'\xe4"', {"input": ["\\xe4", "\\xe4"]}),
}


@pytest.mark.parametrize(("source", "expected"), BEYOND.values(), ids=BEYOND)
def test_spellings_beyond_protobufs_python(tmp_path: Path, source: bytes, expected: Mapping[str, Any]) -> None:
    assert plain(read(tmp_path, source)) == plain(expected)


NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
INT32 = st.integers(-(2**31), 2**31 - 1)
VALUES: Mapping[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.TYPE_FLOAT: st.floats(width=32),
    FieldDescriptor.TYPE_DOUBLE: st.floats(),
    FieldDescriptor.TYPE_INT32: INT32,
    FieldDescriptor.TYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_STRING: NAMES,
}


@st.composite
def messages(draw: st.DrawFn, kind: Descriptor) -> Any:
    """A random message: a few of its fields, and of the fields in these."""
    message = message_class(kind.name)()
    for field in draw(st.lists(st.sampled_from(tuple(kind.fields)), max_size=4, unique_by=lambda f: f.number)):
        if field.message_type is not None:
            value = messages(field.message_type)
        elif field.enum_type is not None:
            value = st.sampled_from([item.number for item in field.enum_type.values])
        else:
            value = VALUES[field.type]
        if field.is_repeated:
            getattr(message, field.name).extend(draw(st.lists(value, max_size=3)))
        elif field.message_type is not None:
            getattr(message, field.name).CopyFrom(draw(value))
        else:
            setattr(message, field.name, draw(value))
    return message


NETWORKS = messages(message_class().DESCRIPTOR)
STYLES: list[dict[str, Any]] = [
    {},
    {"as_one_line": True},
    {"pointy_brackets": True, "use_short_repeated_primitives": True},
    {"as_utf8": True, "use_index_order": True},
    {"as_one_line": True, "pointy_brackets": True, "use_short_repeated_primitives": True},
]


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(message=NETWORKS, style=st.sampled_from(STYLES), crlf=st.booleans())
def test_any_network_as_protobuf_prints_it(tmp_path: Path, message: Any, style: dict[str, Any], crlf: bool) -> None:
    source = text_format.MessageToString(message, **style)
    if not source.strip():
        return
    tree = read(tmp_path, source.replace("\n", "\r\n") if crlf else source)
    assert plain(tree) == plain(from_message(message))
    assert tree.all_faults() == []


def test_floats_are_rounded_to_float32_and_doubles_are_not(tmp_path: Path) -> None:
    tree = read(tmp_path, "layer { loss_weight: 0.1 blobs { data: 16777217 double_data: 0.1 } }")["layer"][0]
    assert tree["loss_weight"] == [0.10000000149011612]
    assert tree["blobs"][0] == {"data": [16777216.0], "double_data": [0.1]}


# ---- lines and comments ----------------------------------------------------------------------------------------------


def test_messages_know_their_lines(tmp_path: Path) -> None:
    tree = read(tmp_path, 'name: "n"\n\nlayer {\n  pooling_param {\n  }\n}\n# c\nlayer\n{ }')
    assert [layer.line for layer in tree["layer"]] == [3, 9]
    assert tree["layer"][0]["pooling_param"].line == 4


def test_comments_are_kept_without_those_inside_strings(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_bytes(b'# mean_value: 104, 117, 123\nname: "a # b" #c\r\n  #   \xe4  d\nlayer { #e\n}')
    assert text.read_text(path)[1] == ("mean_value: 104, 117, 123", "c", "\\xe4  d", "e")


# ---- faults that count only where their message counts ---------------------------------------------------------------


def test_unknown_fields_become_faults_with_their_line(tmp_path: Path) -> None:
    source = """layer {
      name: "a"
      convolution_param { num_output: 3
        kernel_sizes: 3 }
      fork_param { deep < list: [1, {a: "x" 'y'}] s: "}" > } top: "t"
      other: -inf; more: "a" "b" why { } top: "u"
    }"""
    layer = read(tmp_path, source)["layer"][0]
    assert layer["top"] == ["t", "u"]
    assert layer["convolution_param"] == {"num_output": 3}
    found = [(fault.line, fault.text) for fault in layer.all_faults()]
    assert found == [
        (5, "unknown field 'fork_param' of LayerParameter"),
        (6, "unknown field 'other' of LayerParameter"),
        (6, "unknown field 'more' of LayerParameter"),
        (6, "unknown field 'why' of LayerParameter"),
        (4, "unknown field 'kernel_sizes' of ConvolutionParameter; did you mean 'kernel_size'?"),
    ]


def test_like_names_are_sought_for_as_many_fields_as_a_message_shows(tmp_path: Path) -> None:
    (layer,) = read(tmp_path, "layer { " + " ".join(f"botom: {i}" for i in range(60)) + " }")["layer"]
    hints = ["did you mean 'bottom'?" in fault.text for fault in layer.all_faults()]
    assert hints == [True] * 40 + [False] * 20


@pytest.mark.parametrize("value", ["MEAN", "7", "-1"])
def test_unknown_enum_values_become_faults(tmp_path: Path, value: str) -> None:
    (layer,) = read(tmp_path, f'layer {{ name: "p"\npooling_param {{ pool: {value} stride: 2 }} }}')["layer"]
    (fault,) = layer.all_faults()
    assert (fault.line, fault.text) == (
        2,
        f"field 'pool' has no value '{value}'; it has MAX, AVE, STOCHASTIC, AVE_EXC_PAD",
    )
    assert layer["pooling_param"]["stride"] == 2


# ---- errors ----------------------------------------------------------------------------------------------------------

ERRORS: dict[str, tuple[str, str, str]] = {
    "no colon": ('layer {\n  name "a"\n}', "2:8", "':' is needed here, found '\"a\"'"),
    "no value": ("layer { name: }", "1:15", "a string for field 'name' is needed here, found '}'"),
    "no value in the end": ("input_dim: # ", "1:13", "needs a value of kind int32, found the end of the file"),
    "no string in the end": ("name:", "1:6", "a string for field 'name' is needed here, found the end of the file"),
    "no message in the end": ("layer:", "1:7", "field 'layer' needs '{', found the end of the file"),
    "no unknown value in the end": ("a:", "1:3", "the file ends inside the value of the unknown field 'a'"),
    "no field name": ('name: "a"\n: 3', "2:1", "a field name is needed here, found ':'"),
    "no message": ("layer 3", "1:7", "field 'layer' needs '{', found '3'"),
    "a string for a message": ('layer: "a"', "1:8", "field 'layer' needs '{'"),
    "not closed": ('layer {\n  name: "a"\n', "2:12", "begins in line 1: '}' lacks"),
    "closed by the other mark": ("layer { > ", "1:9", "a field name is needed here, found '>'"),
    "closed twice": ("layer { } }", "1:11", "a field name is needed here, found '}'"),
    "string not closed": ('name: "a\nlayer { }', "1:7", 'the string "a has no closing " in its line'),
    "string in the next line": ("name: 'a\\\nb'", "1:7", "the string 'a\\ has no closing ' in its line"),
    "string not closed in a layer": (
        "layer { name: 'a' type: 'b }",
        "1:25",
        "layer 'a': the string 'b } has no closing '",
    ),
    "unquoted string": ("name: a", "1:7", "a string for field 'name' is needed here, found 'a'"),
    "unknown escape": (r'name: "\q"', "1:7", r"'\q' is not an escape"),
    "hex escape without digits": (r'name: "\xg"', "1:7", r"'\x' is not an escape"),
    "octal escape beyond a byte": (r'name: "\777"', "1:7", r"'\777' is not an escape"),
    "escape beyond unicode": (r'name: "\U00110000"', "1:7", "is not an escape"),
    "quoted enum": ('state { phase: "TEST" }', "1:16", "needs a value of kind enum, found '\"TEST\"'"),
    "float for an integer": ("input_dim: 1.5", "1:12", "needs a value of kind int32, found '1.5'"),
    "integer too large": ("input_dim: 2147483648", "1:12", "needs a value of kind int32"),
    "integer of many digits": (f"input_dim: {'9' * 5000}", "1:12", "needs a value of kind int32, found '9999"),
    "negative unsigned": (
        'layer { accuracy_param { top_k: -1 } name: "a" }',
        "1:33",
        "layer 'a': field 'top_k' needs a value of kind uint32, found '-1'; it takes whole numbers from 0 to 42949",
    ),
    "in a layer without a name": ("\nlayer { loss_weight: x }", "2:22", "layer of line 2: field 'loss_weight'"),
    "in a layer of 2014": ("layers { name: 'a' convolution_param { pad: -1 } }", "1:45", "layer 'a': field 'pad'"),
    "in a layer of 2013": ("layers { layer { pad: -1 name: 'a' } }", "1:23", "layer 'a': field 'pad'"),
    "behind a layer": ("layer { name: 'a' } input_dim: x", "1:32", ": field 'input_dim'"),
    "not readable in a layer": ("layer { name: 'a' top 3 }", "1:23", "layer 'a': ':' is needed here, found '3'"),
    "bad octal": ("input_dim: 08", "1:12", "needs a value of kind int32, found '08'"),
    "bad bool": ("force_backward: 2", "1:17", "needs a value of kind bool, found '2'"),
    "bad float": ("layer { loss_weight: one }", "1:22", "needs a value of kind float, found 'one'"),
    "bad number": ("input_dim: 5x", "1:12", "is not valid here"),
    "two dots": ("layer { loss_weight: 1.5.2 }", "1:22", "is not valid here"),
    "huge hexadecimal float": (f"layer {{ loss_weight: 0x{'f' * 300} }}", "1:22", "needs a value of kind float"),
    "list of a singular field": ('name: ["a"]', "1:7", "a string for field 'name' is needed here, found '['"),
    "list not closed": ("input_dim: [1, 2", "1:17", "found the end of the file"),
    "list without a comma": ("input_dim: [1 2]", "1:15", "',' is needed here, found '2'"),
    "list with a comma at its end": ("input_dim: [1,]", "1:15", "needs a value of kind int32, found ']'"),
    "twice": ('name: "a"\nname: "b"', "2:1", "field 'name' of NetParameter stands twice"),
    "message twice": ("state { } state { }", "1:11", "field 'state' of NetParameter stands twice"),
    "unknown field without a value": ("layer { foo }", "1:13", "the unknown field 'foo' has no value before '}'"),
    "unknown field closed wrongly": ("foo { a: [1 } ]", "1:13", "the unknown field 'foo' has no value before '}'"),
    "unknown field not closed": ("foo {", "1:6", "the file ends inside the value of the unknown field 'foo'"),
    "unknown fields too deep": ("foo " + "{ a " * 65, "1:261", "nest more than 64 deep"),
    "not ascii": ("name: “a”", "1:7", "is not valid here"),
    "separators alone": (";", "1:1", "a field name is needed here"),
    "an extension": ("[a.b] { }", "1:1", "a field name is needed here, found '['"),
}


@pytest.mark.parametrize(("source", "place", "words"), ERRORS.values(), ids=ERRORS)
def test_errors_say_where_and_what(tmp_path: Path, source: str, place: str, words: str) -> None:
    said = fails(tmp_path, source)
    assert said.startswith(f"{tmp_path / 'net.prototxt'}:{place}: ")
    assert words in said
    assert len(said) < 300 + len(str(tmp_path))


def test_columns_count_characters_behind_a_byte_order_mark_and_crlf(tmp_path: Path) -> None:
    assert ":2:9: " in fails(tmp_path, b'\xef\xbb\xbfname: "\xc3\xa4"\r\nlayer { 5 }')


def test_what_is_not_utf8_can_be_printed(tmp_path: Path) -> None:
    assert r"'\xff\xfe' is not valid here" in fails(tmp_path, b"name: \xff\xfe")


def test_all_values_that_do_not_fit_are_told(tmp_path: Path) -> None:
    source = """layer { convolution_param { pad: -1 num_output: -4 } name: "a" }
    layer { name: "b" type: "ReLU" type: "ReLU" pooling_param { } pooling_param { stride: -1 } }
    layer { name: "c" top: 5 }"""
    assert fails(tmp_path, source).splitlines() == [
        f"{tmp_path / 'net.prototxt'}: 6 problems",
        "  - line 1, column 34: layer 'a': field 'pad' needs a value of kind uint32, found '-1'; it takes whole "
        "numbers from 0 to 4294967295",
        "  - line 1, column 49: layer 'a': field 'num_output' needs a value of kind uint32, found '-4'; it takes whole "
        "numbers from 0 to 4294967295",
        "  - line 2, column 36: layer 'b': field 'type' of LayerParameter stands twice; it may stand once",
        "  - line 2, column 67: layer 'b': field 'pooling_param' of LayerParameter stands twice; it may stand once",
        "  - line 2, column 91: layer 'b': field 'stride' needs a value of kind uint32, found '-1'; it takes whole "
        "numbers from 0 to 4294967295",
        "  - line 3, column 28: layer 'c': a string for field 'top' is needed here, found '5'",
    ]


def test_a_file_of_very_many_faults_is_given_up(tmp_path: Path) -> None:
    said = fails(tmp_path, "input_dim: x " * 1000).splitlines()
    assert len(said) == text.MAX_FAULTS + 1


OTHER_KINDS = {
    "html": (b"\xef\xbb\xbf\r\n <!DOCTYPE html><html>", "a web page"),
    "git lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "git lfs pull"),
    "gzip": (gzip.compress(b'name: "a"'), "gzip-compressed: unpack it"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "give it in the caffemodel's place"),
    "utf-16": ('name: "a"'.encode("utf-16"), "UTF-16: save it as UTF-8"),
    "utf-16, the other way round": (b"\xfe\xff" + 'name: "a"'.encode("utf-16-be"), "UTF-16: save it as UTF-8"),
}


@pytest.mark.parametrize(("data", "words"), OTHER_KINDS.values(), ids=OTHER_KINDS)
def test_files_of_other_kinds_are_named(tmp_path: Path, data: bytes, words: str) -> None:
    said = fails(tmp_path, data)
    assert said.startswith(f"{tmp_path / 'net.prototxt'}: not a text prototxt: it ")
    assert words in said


@pytest.mark.parametrize("source", [b"", b" \n\t\r\n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_named(tmp_path: Path, source: bytes) -> None:
    assert "the prototxt is empty" in fails(tmp_path, source)


def test_a_binary_file_is_named(tmp_path: Path) -> None:
    said = fails(tmp_path, b'name: "a"\x12\x00')
    assert "byte 0x12 at offset 9" in said
    assert "binary caffemodel" in said


def test_a_file_of_a_caffemodels_size_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    with path.open("wb") as file:
        file.truncate(text.MAX_BYTES + 1)
    with pytest.raises(ReadError, match="is too much for a prototxt"):
        text.read_text(path)


def test_too_many_tokens_are_refused_and_no_fewer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "MAX_TOKENS", 13)  # the end of the file is one
    assert read(tmp_path, "input_dim: 1 " * 4)["input_dim"] == [1] * 4
    assert "more than 13 words and signs" in fails(tmp_path, "input_dim: 1 " * 5)


def test_too_many_layers_are_refused_and_no_fewer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "MAX_LAYERS", 5)
    assert len(read(tmp_path, "layer { }\n" * 5)["layer"]) == 5
    assert ":6:1: more than 5 messages 'layer' in one NetParameter" in fails(tmp_path, "layer { }\n" * 6)


PARTS = {
    "empty layers": "layer{}" * 100_000,
    "layers": 'layer{name:"a" type:"ReLU" bottom:"a" top:"a"}' * 40_000,
    "bottoms": "layer{" + 'bottom:"a"' * 200_000 + "}",
    "values": "input_dim:[" + "1," * 300_000 + "1]",
    "unknown fields": "layer{" + "x:1 " * 200_000 + "}",
    "pieces of a string": 'name:"a"' + '"a"' * 500_000,
}


@pytest.mark.parametrize("source", PARTS.values(), ids=PARTS)
def test_files_of_far_more_parts_than_any_network_has_are_refused(tmp_path: Path, source: str) -> None:
    assert re.search(r"more than (500000 words and signs|30000 messages 'layer')", fails(tmp_path, source))


def test_a_string_of_many_pieces_takes_no_quadratic_time(tmp_path: Path) -> None:
    pieces = '"ab" ' * 200_000
    tree = read(tmp_path, f"name: {pieces} layer {{ unknown: {pieces} }}")
    assert tree["name"] == "ab" * 200_000


# ---- time ------------------------------------------------------------------------------------------------------------

HUGE = 1_000_000
SLOW = {
    "digits": "input_dim: " + "1" * HUGE + "x",
    "a float's digits": "layer { loss_weight: " + "1" * HUGE + "." + "1" * HUGE + "x",
    "hexadecimal digits": "layer { loss_weight: 0x" + "f" * HUGE + " }",
    "a string without end": 'name: "' + "a" * HUGE,
    "escapes without end": 'name: "' + "\\a" * HUGE,
    "a name": "a" * HUGE,
    "spaces behind a minus": "input_dim: -" + " " * HUGE,
    "open marks": "a" + "{a" * HUGE,
    "comments": "#\n" * HUGE + "}",
    "an unknown list": "a: [" + "1," * (HUGE // 10),
    "layers": "layer{" * (HUGE // 10),
}


@pytest.mark.parametrize("source", SLOW.values(), ids=SLOW)
def test_hostile_files_are_refused_in_time(tmp_path: Path, source: str) -> None:
    start = time.perf_counter()
    said = fails(tmp_path, source)
    assert time.perf_counter() - start < 3
    assert len(said) < 300 + len(str(tmp_path))


def test_a_large_file_is_read_in_time(tmp_path: Path) -> None:
    start = time.perf_counter()
    tree = read(tmp_path, 'layer { name: "a" type: "ReLU" bottom: "x" top: "x" }\n' * 20_000)
    assert len(tree["layer"]) == 20_000
    assert time.perf_counter() - start < 10
