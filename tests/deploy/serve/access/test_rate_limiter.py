"""How often one client may ask."""

from __future__ import annotations

from senet_convert.deploy.serve.access import rate_limiter
from senet_convert.deploy.serve.access.rate_limiter import RateLimiter


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_then_the_rate() -> None:
    clock = Clock()
    limit = RateLimiter(2, clock=clock)
    assert [limit.wait("a") for _ in range(5)] == [0, 0, 0, 0, 1]
    assert limit.wait("b") == 0
    clock.now += 0.5
    assert [limit.wait("a"), limit.wait("a")] == [0, 1]
    clock.now += 1000
    assert [limit.wait("a") for _ in range(5)] == [0, 0, 0, 0, 1]


def test_less_than_one_a_second() -> None:
    clock = Clock()
    limit = RateLimiter(0.1, clock=clock)
    assert [limit.wait("a"), limit.wait("a")] == [0, 10]
    clock.now += 9
    assert limit.wait("a") == 1
    clock.now += 1
    assert limit.wait("a") == 0


def test_no_rate_is_no_limit() -> None:
    limit = RateLimiter(0)
    assert {limit.wait("a") for _ in range(1000)} == {0}


def test_clients_are_forgotten() -> None:
    limit = RateLimiter(1, clock=Clock())
    for number in range(rate_limiter.CLIENTS + 500):
        limit.wait(str(number))
    assert len(limit._known) == rate_limiter.CLIENTS
