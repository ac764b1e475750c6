"""The page's files: what is sent with them, and that nothing is asked for that is not there."""

from __future__ import annotations

import re
from importlib import resources

import httpx
import pytest

from senet_convert.deploy.serve.classify import webpage
from senet_convert.deploy.serve.settings.settings import Settings
from senet_convert.deploy.serve.state import ServerState
from tests.deploy.serve.asgi import talk

PATHS = ("/", *(f"/static/{name}" for name in webpage.FILES))


def test_every_file_is_served_and_no_other() -> None:
    there = {file.name for file in resources.files(webpage.__package__).joinpath("page").iterdir()}
    assert there == {"index.html", *webpage.FILES}

    async def use(client: httpx.AsyncClient, _: ServerState) -> None:
        for path in PATHS:
            answer = await client.get(path)
            assert answer.status_code == 200
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Cache-Control"] == "no-cache"
            if answer.headers["Content-Type"].startswith(("text/html", "image/svg+xml")):
                policy = answer.headers["Content-Security-Policy"]
                assert policy.startswith("default-src 'self'; img-src 'self' data: blob:;")
                assert "unsafe" not in policy
            again = await client.get(path, headers={"If-None-Match": answer.headers["ETag"]})
            assert (again.status_code, again.content) == (304, b"")
            head = await client.head(path)
            assert (head.status_code, head.content) == (200, b"")
        for path in ("/static/", "/static/index.html", "/static/..%2f__init__.py", "/static/../people.py"):
            assert (await client.get(path)).status_code == 404

    talk(Settings(), use)


@pytest.mark.parametrize("name", ["index.html", *webpage.FILES])
def test_nothing_is_inline_and_nothing_from_elsewhere(name: str) -> None:
    text = resources.files(webpage.__package__).joinpath("page", name).read_text(encoding="utf-8")
    outside = set(re.findall(r"(?:https?:)?//[\w.]+", text)) - {"http://www.w3.org"}  # the name of SVG's namespace
    assert {link for link in outside if "." in link} == set()
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", text)
    assert "innerHTML" not in text


def test_links_of_the_page_lead_to_files() -> None:
    text = resources.files(webpage.__package__).joinpath("page", "index.html").read_text(encoding="utf-8")
    links = re.findall(r'(?:src|href)="([^"]+)"', text)
    assert {f"/{link}" for link in links} <= {*PATHS, "/docs"}
    for name in webpage.FILES:
        script = resources.files(webpage.__package__).joinpath("page", name).read_text(encoding="utf-8")
        assert {f"/static/{one}" for one in re.findall(r'from "\./([^"]+)"', script)} <= set(PATHS)
