"""Damaged files give a graph or a ConvertError. Longer by hand: `python -m fuzz --seconds 600`."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from fuzz import campaign, guided, mutate
from senet_convert.errors import ReadError
from tests.paths import GOLDEN


def test_damaged_networks_are_converted_or_refused(tmp_path: Path) -> None:
    networks = campaign.seeds(GOLDEN)
    done = campaign.run(networks, tmp_path, number=0, first=0, count=1000, seconds=15)
    assert not done.findings, "\n".join(map(str, done.findings))
    assert done.outcomes["graph"] > 10
    assert done.outcomes["ReadError"] > 10
    assert done.outcomes["GraphError"] > 10


def test_a_trial_can_be_repeated(tmp_path: Path) -> None:
    networks = campaign.seeds(GOLDEN)
    files = []
    for _ in range(2):
        campaign.run(networks, tmp_path, number=3, first=7, count=1, seconds=15)
        files.append([path.read_bytes() for path in sorted(tmp_path.iterdir())])
    assert files[0] == files[1]


@pytest.mark.parametrize("mutation", dict.fromkeys((*mutate.BINARY, *mutate.TEXT)), ids=lambda f: f.__name__)
def test_every_mutation_changes_something(mutation: mutate.Mutation) -> None:
    (network,) = [seed for seed in campaign.seeds(GOLDEN) if seed.name == "se_resnet"]
    data = network.caffemodel if mutation in mutate.BINARY else network.prototxt
    assert any(mutation(data, Random(i)) != data for i in range(5))
    assert mutation(b"x", Random(0)) is not None


def test_other_exceptions_and_slow_inputs_are_findings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(path: Path) -> None:
        while True:
            pass

    def crash(path: Path) -> None:
        raise KeyError("x")

    def refuse(path: Path) -> None:
        raise ReadError("x")

    networks = campaign.seeds(GOLDEN)[:1]
    for reader, words in ((hang, "took 0."), (crash, "KeyError: 'x'"), (refuse, None)):
        monkeypatch.setattr(campaign, "SECONDS", 0.2)
        monkeypatch.setattr(campaign, "read_caffemodel", reader)
        done = campaign.run(networks, tmp_path, number=0, first=0, count=1, seconds=15)
        assert [words in finding.what for finding in done.findings if words] == ([True] if words else [])
        assert len(done.findings) == (1 if words else 0)


@pytest.mark.parametrize(
    ("file", "outcomes"),
    [("deploy.prototxt", ("WeightsError", "ReadError")), ("net.caffemodel", ("ReadError", "graph"))],
)
def test_the_guided_target_tries_both_readers(tmp_path: Path, file: str, outcomes: tuple[str, str]) -> None:
    data = (GOLDEN / "se_resnet" / file).read_bytes()
    assert guided.judge(data, tmp_path / "net") == outcomes
    assert guided.judge(data[: len(data) // 2], tmp_path / "net") == ("ReadError", "ReadError")


def test_the_guided_target_lets_other_exceptions_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(path: Path) -> None:
        raise KeyError("x")

    monkeypatch.setattr("senet_convert.proto.read_caffemodel", crash)
    with pytest.raises(KeyError):
        guided.judge(b"", tmp_path / "net")
