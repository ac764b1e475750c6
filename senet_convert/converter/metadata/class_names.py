"""What the outputs of a network stand for."""

from __future__ import annotations

from pathlib import Path

from ...deploy.labels.classes import DEVKIT, ORDERS, Classes, read_labels
from ...errors import ConvertError
from ..graph.graph import Graph

ILSVRC_CLASSES = 1000


def class_names(built: Graph, released: bool, wanted: Path | str | None) -> Classes:
    """As a person says, else the devkit's classes where the caffemodel is a release.

    `wanted` is a file of labels, 'devkit' or 'sorted'. Raises ConvertError where it does not fit the network.
    """
    counts = {built.shapes[built.blobs[name]][1] for name in built.outputs if len(built.shapes[built.blobs[name]]) > 1}
    if wanted is None:
        return Classes.ilsvrc2012(DEVKIT) if released and counts == {ILSVRC_CLASSES} else Classes()
    if isinstance(wanted, Path):
        classes, said = read_labels(wanted), str(wanted)
    else:
        classes, said = Classes.ilsvrc2012(ORDERS[wanted]), f"--labels {wanted}"
    if counts and len(classes.labels) not in counts:
        outputs = ", ".join(f"'{name}' {list(built.shapes[built.blobs[name]])}" for name in built.outputs)
        raise ConvertError(f"{said}: {len(classes.labels)} labels, but the network's outputs are {outputs}")
    if released and classes.order in set(ORDERS.values()) - {DEVKIT}:
        raise ConvertError(
            f"{said}: lists the classes by {classes.order}, but the released networks number them by {DEVKIT}. Leave "
            "--labels away: the right names are known"
        )
    return classes
