"""The inputs of a network: the passes that find who brings them, and settle their shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod

from ...errors import Problems, listed
from ...proto import LayerDef
from ...proto.netdef import MAX_AXES, MAX_COUNT, Shape
from .draft import Draft, Dropped, Input

# Layers that bring data in. At inference their tops are the network's inputs.
DATA = frozenset({"Input", "Data", "DummyData", "HDF5Data", "ImageData", "MemoryData", "WindowData"}) | frozenset(
    {
        "AnnotatedData",
        "DenseImageData",
        "ImageLabelmapData",
        "ImageSegData",
        "SegData",
        "VideoData",
        "WindowSegData",
    }  # of forks
)

SIDE = 224  # of a picture, in examples
# Layers that read maps of height and width.
SPATIAL = frozenset({"Convolution", "ConvolutionDepthwise", "Deconvolution", "DepthwiseConvolution", "LRN", "Pooling"})
NAMED: Mapping[str, str] = {"label": "1", "im_info": "1,3", "rois": "300,5"}  # part of a name -> dimensions


# ---- the passes ------------------------------------------------------------------------------------------------------


def data_to_inputs(draft: Draft, problems: Problems) -> Draft:
    """Tops of data layers and names of the old header become inputs.

    A snapshot of a training net has only the TRAIN phase's data layers: where nothing else brings a blob that is read,
    an excluded data layer does, wherever it stands. Names of the header without dimensions count for nothing in Caffe
    (UpgradeNetInput): here they stay where no layer brings the blob, so that the user can give its shape.
    """
    brought = {name for name, _ in draft.net.inputs} | {top for layer in draft.layers for top in layer.tops}
    read = {bottom for layer in draft.layers for bottom in layer.bottoms}
    restored = [
        layer for layer in draft.excluded if _is_data(layer) and any(top in read - brought for top in layer.tops)
    ]
    tops = {top for layer in (*restored, *draft.layers) for top in layer.tops if top not in layer.bottoms}
    header = [Input(name, shape, "the header's input") for name, shape in draft.net.inputs]
    inputs = [item for item in header if item.shape is not None or item.blob not in tops]
    made = {item.blob for item in inputs}
    early: dict[str, list[LayerDef]] = {}  # blob -> layers that read it before anything has made it
    kept = []
    for layer in [*restored, *draft.layers]:
        for bottom in set(layer.bottoms) - made:
            early.setdefault(bottom, []).append(layer)
        made.update(layer.tops)
        if not _is_data(layer):
            kept.append(layer)
            continue
        for top in dict.fromkeys(layer.tops):
            for reader in early.pop(top, ()):
                problems.add(
                    f"{reader.where} reads blob '{top}', which nothing before it produces: layer '{layer.name}' "
                    "produces it, but Caffe runs layers in the file's order"
                )
        inputs += _inputs_of(layer, problems)
    names = {layer.name for layer in restored}
    dropped = [item for item in draft.dropped if item.name not in names]
    reason = "the header gives no dimensions for it, and a layer brings it"
    dropped += [Dropped(item.blob, "input", reason) for item in header if item not in inputs]
    return replace(draft, layers=tuple(kept), inputs=tuple(inputs), dropped=tuple(dropped))


def shape_inputs(draft: Draft, problems: Problems) -> Draft:
    """Apply the shapes that a person gives; name the inputs that still have none."""
    _refuse_several(draft, problems)
    given = draft.options.input_shapes
    for name in sorted(str(key) for key in given if key is not None and key not in {i.blob for i in draft.inputs}):
        have = ", ".join(f"'{item.blob}'" for item in draft.inputs) or "none"
        problems.add(f"--input-shape names the input '{name}', the network's inputs are: {have}")
    inputs = []
    for item in draft.inputs:
        shape = given.get(item.blob, item.shape if item.shape is not None else given.get(None))
        if len(draft.inputs) == 1 and None in given:
            shape = given[None]
        if shape is None:
            problems.add(
                f"input '{item.blob}' has no shape: {item.by} does not give it. "
                f"Give it, for example --input-shape {item.blob}={_example(item, draft)} (in Python: input_shapes)"
            )
        elif len(shape) > MAX_AXES:
            problems.add(f"input '{item.blob}' has a shape of {len(shape)} dimensions; Caffe has at most {MAX_AXES}")
            shape = None
        elif any(dim < 1 for dim in shape) or prod(shape) > MAX_COUNT:
            said = f"input '{item.blob}' has the impossible shape {list(shape)}"
            if any(dim < 1 for dim in shape):
                example = ",".join(str(dim if dim > 0 else SIDE if i > 1 else 1) for i, dim in enumerate(shape))
                said += (
                    f": Caffe has no dimension below 1. Give it, for example --input-shape {item.blob}={example} (in "
                    "Python: input_shapes); the batch stays free where the network allows it"
                )
            problems.add(said)
            shape = None
        inputs.append(replace(item, shape=shape))
    if not draft.layers and draft.excluded:
        phase = draft.options.state.phase
        problems.add(f"the rules of its layers leave nothing to run in phase {phase}; see --phase, --stage and --level")
    elif not inputs and not any(item.type == "input" for item in draft.dropped):
        learned = [f"'{layer.name}'" for layer in draft.layers if layer.type == "Parameter"]
        why = (
            f"; what its layers compute comes from Parameter layers alone ({listed(learned)}) and is the same every "
            "time. Compute it once, by the original"
        )
        problems.add(
            "it has no inputs: no Input or data layer, and no input header, brings a blob that a layer reads"
            f"{why if learned else ''}"
        )
    return replace(draft, inputs=tuple(inputs))


def _example(item: Input, draft: Draft) -> str:
    """Dimensions that the input may have, going by its name and its readers."""
    named = next((shape for part, shape in NAMED.items() if part in item.blob.lower()), None)
    readers = {layer.type for layer in draft.layers if item.blob in layer.bottoms}
    if readers & SPATIAL:
        return f"1,3,{SIDE},{SIDE}"
    return named or (f"1,3,{SIDE},{SIDE}" if len(draft.inputs) == 1 else "1,10")


# ---- what they share -------------------------------------------------------------------------------------------------


def _is_data(layer: LayerDef) -> bool:
    return layer.type in DATA or (layer.type == "Python" and not layer.bottoms)


def _inputs_of(layer: LayerDef, problems: Problems) -> list[Input]:
    """The inputs that a data layer brings."""
    shapes = _data_shapes(layer, problems)
    if shapes and len(shapes) not in (1, len(layer.tops)):
        problems.add(f"{layer.where} gives {len(shapes)} shapes for {len(layer.tops)} tops")
    every: list[Shape | None] = [*(shapes * len(layer.tops) if len(shapes) == 1 else shapes)]
    every += [None] * (len(layer.tops) - len(every))
    return [Input(top, every[i], f"layer '{layer.name}' ({layer.type})") for i, top in enumerate(layer.tops)]


def _data_shapes(layer: LayerDef, problems: Problems) -> list[Shape]:
    """The shapes that a data layer's parameters give for its tops; [] where they leave them open."""
    if layer.type == "Input":
        return [tuple(shape.get("dim", ())) for shape in layer.params.get("input_param", {}).get("shape", ())]
    if layer.type == "DummyData":
        return _dummy_shapes(layer, problems)
    if layer.type == "MemoryData":
        param = layer.params.get("memory_data_param", {})
        dims = tuple(param.get(key, 0) for key in ("batch_size", "channels", "height", "width"))
        return [dims, dims[:1]]
    return []


def _dummy_shapes(layer: LayerDef, problems: Problems) -> list[Shape]:
    """Those of a DummyData: `shape`, or each side by itself, with one value for all tops or one for each."""
    param = layer.params.get("dummy_data_param", {})
    sides = {key: param.get(key, ()) for key in ("num", "channels", "height", "width")}
    if not any(sides.values()):
        return [tuple(shape.get("dim", ())) for shape in param.get("shape", ())]
    tops = len(layer.tops)
    if param.get("shape"):
        problems.add(f"{layer.where} gives both shape and {', '.join(key for key in sides if sides[key])}; keep one")
        return []
    wrong = [f"{len(values)} of {key}" for key, values in sides.items() if len(values) not in (1, tops)]
    if wrong:
        problems.add(
            f"{layer.where} gives {', '.join(wrong)} for {tops} tops; it needs num, channels, height and width, each "
            "once or for each top"
        )
        return []
    return [tuple(values[0 if len(values) == 1 else i] for values in sides.values()) for i in range(tops)]


def _refuse_several(draft: Draft, problems: Problems) -> None:
    """One blob is brought in once; who does may be a matter of the layers' rules."""
    bringers: dict[str, list[str]] = {}
    for item in draft.inputs:
        bringers.setdefault(item.blob, []).append(item.by)
    ruled = {top for layer in draft.net.layers if layer.include or layer.exclude for top in layer.tops}
    for blob, by in bringers.items():
        if len(by) > 1:
            choice = "choose one by --phase, --stage, --level" if blob in ruled else "keep one of them"
            problems.add(f"blob '{blob}' is brought in {len(by)} times, by {listed(list(dict.fromkeys(by)))}; {choice}")
