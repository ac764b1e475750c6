from __future__ import annotations

import pytest

from senet_convert.errors import ConvertError, GraphError, Problems, listed


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


def test_long_lists_are_cut_and_counted() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed(["a", "b", "c"], limit=2) == "a, b and 1 more"
