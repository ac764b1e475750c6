from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from senet_convert.converter.graph.graph import Graph
from senet_convert.converter.metadata.class_names import class_names
from senet_convert.deploy.labels.classes import DEVKIT, ORDERS, SORTED, Classes
from senet_convert.errors import ConvertError
from tests.nets import write


@pytest.fixture
def thousand(tmp_path: Path) -> Graph:
    """A small network, as though it had 1000 classes."""
    files = write(tmp_path)
    built = files.graph()
    outputs = {built.blobs[name] for name in built.outputs}
    shapes = {name: (shape[0], 1000, *shape[2:]) if name in outputs else shape for name, shape in built.shapes.items()}
    return replace(built, shapes=shapes)


def test_a_release_speaks_devkit_order(thousand: Graph) -> None:
    assert class_names(thousand, True, None) == Classes.ilsvrc2012(DEVKIT)
    assert class_names(thousand, False, None) == Classes()


@pytest.mark.parametrize("word", ORDERS)
def test_a_network_of_ones_own_speaks_what_one_says(word: str, thousand: Graph) -> None:
    found = class_names(thousand, False, word)
    assert found == Classes.ilsvrc2012(ORDERS[word])


def test_a_release_with_labels_of_the_other_order_is_refused(thousand: Graph, tmp_path: Path) -> None:
    wnids = Classes.ilsvrc2012(SORTED).wnids
    (tmp_path / "synset_words.txt").write_text("\n".join(f"{wnid} some name" for wnid in wnids))
    with pytest.raises(ConvertError, match=f"lists the classes by {SORTED}, .* number them by {DEVKIT}"):
        class_names(thousand, True, tmp_path / "synset_words.txt")
