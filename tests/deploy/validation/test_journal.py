from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from senet_convert.deploy.images.imagesets import ImageSet
from senet_convert.deploy.model import Model
from senet_convert.deploy.validation.accuracy import Judged
from senet_convert.deploy.validation.journal import Journal, fingerprint
from senet_convert.errors import ConvertError

RUN = {"format": "senet-convert validate 1", "images": 3}
RESULTS: list[Judged | tuple[str, str]] = [
    Judged("a", 1, (1, 0), (0.75, 0.25)),
    ("b", "torn"),
    Judged("c\n", 0, (1, 0), (1 / 3, 2 / 7)),
]


def filled(path: Path) -> Path:
    with closing(Journal(path, RUN)) as journal:
        journal.write(RESULTS)
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    with closing(Journal(filled(tmp_path / "run"), RUN)) as journal:
        assert journal.done == 3
        assert list(journal.results()) == RESULTS


def test_what_is_written_outlives_the_process(tmp_path: Path) -> None:
    """A process that is killed closes nothing."""
    with closing(Journal(tmp_path / "run", RUN)) as running:
        running.write(RESULTS)
        with closing(Journal(tmp_path / "run", RUN)) as later:
            assert list(later.results()) == RESULTS


@pytest.mark.parametrize("torn", [b'{"name": "d", "la', b'{"name": "d"', b"\x00\x00\n"])
def test_a_torn_line_is_cut_off(torn: bytes, tmp_path: Path) -> None:
    path = filled(tmp_path / "run")
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    with closing(Journal(path, RUN)) as journal:
        assert journal.done == 3
        journal.write([("d", "gone")])
    assert path.read_bytes().startswith(whole)
    with closing(Journal(path, RUN)) as journal:
        assert list(journal.results())[3:] == [("d", "gone")]


def test_another_runs_journal_is_refused(tmp_path: Path) -> None:
    path = filled(tmp_path / "run")
    with pytest.raises(ConvertError, match="belongs to a run with other images"):
        Journal(path, {**RUN, "images": 4})
    path.write_text("precious notes\n")
    with pytest.raises(ConvertError, match="not a journal"):
        Journal(path, RUN)
    assert path.read_text() == "precious notes\n"


def test_a_journal_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match="cannot be written"):
        Journal(tmp_path / "no" / "run", RUN)


def test_a_full_disk_is_named() -> None:
    journal = Journal(Path("/dev/full"), RUN)
    with pytest.raises(ConvertError, match="/dev/full: cannot be written: No space"):
        journal.write(RESULTS)
    with pytest.raises(ConvertError, match="/dev/full: cannot be written: No space"):
        journal.close()


def test_a_fingerprint_tells_models_feeding_and_pictures_apart(model: Model, images: ImageSet) -> None:
    same = fingerprint(model, images.items)
    assert fingerprint(model, images.items) == same
    assert fingerprint(model, images.items[:-1]) != same
    assert fingerprint(model, (replace(images.items[0], label=9), *images.items[1:])) != same
    assert fingerprint(model.with_engine("torch", lambda batch: batch), images.items) != same
    assert fingerprint(model.with_preprocess(replace(model.preprocess, resize=40)), images.items) != same
