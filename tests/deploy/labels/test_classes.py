from __future__ import annotations

from pathlib import Path

import pytest

from senet_convert.deploy.labels.classes import (
    AS_GIVEN,
    DEVKIT,
    ORDERS,
    SORTED,
    UNKNOWN,
    Classes,
    ilsvrc2012,
    read_labels,
    renumbering,
)
from senet_convert.errors import ConvertError


def test_the_table_holds_both_orders() -> None:
    table = ilsvrc2012()
    assert [synset.devkit for synset in table] == list(range(1000))
    assert sorted(synset.sorted for synset in table) == list(range(1000))
    by_wnid = sorted(synset.wnid for synset in table)
    assert all(by_wnid[synset.sorted] == synset.wnid for synset in table)


def test_classes_known_by_heart() -> None:
    devkit, by_wnid = Classes.ilsvrc2012(DEVKIT), Classes.ilsvrc2012(SORTED)
    assert devkit.describe(0) == {"index": 0, "label": "kit fox, Vulpes macrotis", "wnid": "n02119789"}
    assert by_wnid.label(0).startswith("tench")
    assert by_wnid.wnids[0] == "n01440764"


def test_the_orders_agree_on_no_class_and_renumber_into_each_other() -> None:
    there, back = renumbering(DEVKIT, SORTED), renumbering(SORTED, DEVKIT)
    assert all(there[k] != k for k in range(1000))
    assert [back[there[k]] for k in range(1000)] == list(range(1000))
    assert Classes.ilsvrc2012(SORTED).wnids[there[7]] == Classes.ilsvrc2012(DEVKIT).wnids[7]


@pytest.mark.parametrize("classes", [Classes(), Classes(("a", "ü"), (), AS_GIVEN), Classes.ilsvrc2012(SORTED)])
def test_metadata_and_back(classes: Classes) -> None:
    assert Classes.from_metadata(classes.metadata()) == classes


def test_unreadable_metadata() -> None:
    with pytest.raises(ConvertError, match="class names"):
        Classes.from_metadata({"labels": "[kit"})


def test_names_find_their_output() -> None:
    classes = Classes.ilsvrc2012(DEVKIT)
    assert classes.index("n02119789") == classes.index("kit fox") == classes.index("Kit Fox, vulpes macrotis") == 0
    with pytest.raises(LookupError, match="428, 544"):
        classes.index("crane")
    with pytest.raises(LookupError, match="no class 'sparow'"):
        classes.index("sparow")


def test_unknown_outputs_are_called_by_their_number() -> None:
    assert Classes().describe(3) == {"index": 3, "label": "3"}
    assert Classes().order == UNKNOWN
    assert not Classes()


@pytest.mark.parametrize("order", ORDERS.values())
@pytest.mark.parametrize("form", ["{wnid} {name}", "{wnid}", "{wnid},{name}"])
def test_label_files_with_wordnet_ids_are_recognised(order: str, form: str, tmp_path: Path) -> None:
    meant = Classes.ilsvrc2012(order)
    lines = [form.format(wnid=w, name=n) for w, n in zip(meant.wnids, meant.labels, strict=True)]
    (tmp_path / "synsets.txt").write_text("\n".join(lines))
    assert read_labels(tmp_path / "synsets.txt") == meant


def test_plain_label_files(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("\ufeffnine, or so\n\n two \n", encoding="utf-8")
    assert read_labels(tmp_path / "labels.txt") == Classes(("nine, or so", "two"), (), AS_GIVEN)


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"\xff\xfe", "cannot be read"), (b"\n \n", "no labels"), (b"n01440764 a\nn01440764 b\n", "more than once")],
)
def test_label_files_that_are_none(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(content)
    with pytest.raises(ConvertError, match=said) as caught:
        read_labels(path)
    assert str(path) in str(caught.value)
