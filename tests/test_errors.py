from __future__ import annotations

from functools import partial

import pytest

from senet_convert.errors import SHOWN, ConvertError, GraphError, Problems, ReadError, did_you_mean, each, listed, near


def test_one_problem_is_one_line() -> None:
    problems = Problems("net.prototxt")
    problems.add("layer 'a' is wrong")
    problems.add("layer 'a' is wrong")
    with pytest.raises(GraphError) as caught:
        problems.raise_as(GraphError)
    assert str(caught.value) == "net.prototxt: layer 'a' is wrong"
    assert isinstance(caught.value, ConvertError)


def test_all_problems_are_listed_with_the_advice_last() -> None:
    problems = Problems("net.prototxt")
    for i in range(60):
        problems.add(f"problem {i}")
    with pytest.raises(GraphError) as caught:
        problems.raise_as(GraphError, "Do this.")
    lines = str(caught.value).splitlines()
    assert lines[0] == "net.prototxt: 60 problems"
    assert lines[1] == "  - problem 0"
    assert lines[-2:] == ["  ... and 20 more", "Do this."]


def test_no_problem_raises_nothing() -> None:
    problems = Problems("net.prototxt")
    problems.raise_as(GraphError)
    assert not problems
    assert list(problems) == []


def test_long_lists_are_cut_in_the_middle_and_counted() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed(list("abc"), " -> ") == "a -> b -> c"
    assert listed(list("abcdefghijklmnopqrst")) == ", ".join("abcdefghijklmnopqrst")
    begin, end = ", ".join("abcdefghij"), ", ".join("mnopqrstuv")
    assert listed(list("abcdefghijklmnopqrstuv")) == f"{begin}, ... 2 more ..., {end}"


def test_of_several_works_all_faults_are_told() -> None:
    def fails(text: str) -> int:
        raise ReadError(text)

    assert each([lambda: 1, lambda: "a"]) == [1, "a"]
    with pytest.raises(ReadError, match=r"\Aone\Z"):
        each([lambda: fails("one"), lambda: 1])
    with pytest.raises(ReadError, match=r"\Aone\ntwo\Z"):
        each([lambda: fails("one"), lambda: 1, lambda: fails("two")])
    with pytest.raises(ReadError) as caught:
        each([partial(fails, str(i)) for i in range(SHOWN + 5)])
    assert str(caught.value).splitlines()[-2:] == [str(SHOWN - 1), "... and 5 more"]


def test_one_problem_of_several_layers_is_one_line() -> None:
    problems = Problems("net.prototxt")
    problems.add("eps is 0", "layer 'a' (line 2)")
    problems.add("no input")
    problems.add("alpha is 0", "layer 'b'")
    for i in range(52):
        problems.add("eps is 0", f"layer 'n{i}' (line {i + 3})")
    first, second, third = problems
    assert first.startswith("eps is 0 (53 layers: 'a' (line 2), 'n0' (line 3), ")
    assert "'n8' (line 11), ... 33 more ..., 'n42' (line 45)" in first
    assert (second, third) == ("no input", "layer 'b': alpha is 0")


def test_names_that_are_spelt_alike() -> None:
    known = ("Convolution", "Deconvolution", "ReLU", "ReLU6", "PReLU")
    assert near("Convolutoin", known)[0] == "Convolution"
    assert near("relu", known)[0] == "ReLU"
    assert near("FooBar", known) == []
    assert near("Convolution" * 10, known) == []
    assert did_you_mean("kernel_sizes", ("kernel_size", "stride")) == "; did you mean 'kernel_size'?"
    assert did_you_mean("Convolutoin", known) == "; did you mean 'Convolution' or 'Deconvolution'?"
    assert did_you_mean("xyz", known) == ""
