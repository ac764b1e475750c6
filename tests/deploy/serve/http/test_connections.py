"""Who makes room for whom."""

from __future__ import annotations

import pytest

from senet_convert.deploy.serve.http import connections
from senet_convert.deploy.serve.http.connections import Connection, Connections, Stage

HERE, THERE = "192.0.2.1", "192.0.2.2"


class Table:
    """A table whose connections tell when they are hung up on."""

    def __init__(self, most: int, share: int, *trusted: str) -> None:
        self.open = Connections(most, share, trusted)
        self.ended: list[str] = []

    def add(self, name: str, address: str = HERE, stage: Stage = Stage.SILENT) -> Connection:
        one = self.open.add(self.open.client(address), lambda: self.ended.append(name))
        self.open.move(one, stage)
        return one

    def room(self, address: str = HERE) -> str:
        return self.open.make_room(self.open.client(address))


def test_the_silent_make_room_before_the_idle_and_the_oldest_first() -> None:
    table = Table(3, 3)
    table.add("idle", stage=Stage.IDLE)
    table.add("first")
    table.add("second")
    for name in ("third", "fourth", "fifth"):
        assert table.room() == ""
        table.add(name, stage=Stage.BUSY)
    assert table.ended == ["first", "second", "idle"]
    assert table.room() == "too many connections from this address; try again"
    assert table.room(THERE) == "too many connections; try again"
    assert len(table.open) == 3


def test_an_idle_one_that_was_used_again_is_the_last_of_them() -> None:
    table = Table(2, 2)
    again = table.add("again", stage=Stage.IDLE)
    table.add("other", stage=Stage.IDLE)
    table.open.move(again, Stage.BUSY)
    table.open.move(again, Stage.IDLE)
    assert table.room() == ""
    assert table.ended == ["other"]


@pytest.mark.parametrize("stage", [Stage.RECEIVING, Stage.STUCK])
def test_who_is_slow_makes_room_after_a_while(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table(1, 1)
    table.add("slow", stage=stage)
    assert table.room() != ""
    monkeypatch.setattr(connections, "_SLOW", 0.0)
    assert table.room() == ""
    assert table.ended == ["slow"]


def test_one_client_takes_no_more_than_its_share() -> None:
    table = Table(10, 2)
    table.add("other", THERE)
    table.add("first")
    table.add("second")
    assert table.room() == ""
    assert table.ended == ["first"]


def test_an_ipv6_client_is_its_64_bits() -> None:
    table = Table(10, 1)
    table.add("one", "2001:db8::1")
    assert table.room("2001:db8:0:1::1") == ""
    assert table.ended == []
    assert table.room("2001:db8::2") == ""
    assert table.ended == ["one"]
    assert table.open.client("fe80::1%eth0") == "fe80::/64"


def test_proxies_and_unix_sockets_are_not_counted_apart() -> None:
    table = Table(10, 1, "192.0.2.0/30", "no.address.example")
    for address in (HERE, HERE, "", ""):
        assert table.room(address) == ""
        table.add("many", address, Stage.BUSY)
    table.add("one", "192.0.2.200", Stage.BUSY)
    assert table.room("192.0.2.200") != ""


def test_nothing_is_left_of_who_is_gone() -> None:
    table = Table(10, 5)
    one = table.add("one")
    table.open.remove(one)
    table.open.remove(one)
    table.open.move(one, Stage.BUSY)
    assert len(table.open) == 0
    assert table.open.every() == []
    assert table.open._clients == {}


def test_several_make_room_at_once() -> None:
    table = Table(10, 10)
    for name in "abc":
        table.add(name)
    table.add("busy", stage=Stage.BUSY)
    assert table.open.end(2) == 2
    assert table.open.end(5) == 1
    assert table.ended == ["a", "b", "c"]
