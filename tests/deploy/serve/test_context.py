"""What a request turned out to be."""

from __future__ import annotations

import asyncio

from senet_convert.deploy.serve import context
from senet_convert.deploy.serve.context import RequestContext


def test_each_task_has_its_own() -> None:
    async def one(name: str) -> str:
        context.current.set(RequestContext(name))
        await asyncio.sleep(0.01)
        return context.current.get().id

    async def main() -> list[str]:
        return await asyncio.gather(*(one(str(number)) for number in range(5)))

    assert asyncio.run(main()) == ["0", "1", "2", "3", "4"]
    assert context.current.there() is None
    assert context.current.get() is not context.current.get()


def test_several_runs_add_up() -> None:
    one = RequestContext.opened("id-1", "127.0.0.1")
    one.asked("digits", "2", 4)
    one.ran(10, 100)
    one.ran(1, 5)
    assert (one.id, one.client, one.model, one.version, one.rows) == ("id-1", "127.0.0.1", "digits", "2", 4)
    assert (one.queued, one.computed) == (11, 105)
