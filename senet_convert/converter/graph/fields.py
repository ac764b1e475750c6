"""Fields that BVLC's Caffe does not know, layer by layer: which have no effect, which the layer's type takes, which a
person has said to pass over, and which stop the conversion.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from math import isnan
from typing import Any

from ...errors import Problems
from ...proto import Fault, LayerDef, is_bvlc
from ..layers import Layer, LayerFault
from ..layers.plain import fitted
from ..layers.registry import Registry

Params = Mapping[str, Any]

# Fields that forks have added and that no result at inference depends on, and why. A name stands for all below it.
WITHOUT_EFFECT: Mapping[str, str] = {
    "accuracy_param": "of a measure",
    "batch_norm_param.engine": "chooses between equal implementations",
    "batch_norm_param.filler": "starts training",
    "batch_norm_param.frozen": "of training; at inference the trained statistics are used in any case",
    "batch_norm_param.momentum": "of training",
    "bn_stats_batch_size": "of training: how many images the statistics are taken over",
    "convolution_param.conv_algorithm": "chooses between cuDNN's algorithms",
    "detection_output_param.save_file": "where pictures of detections go; the top is the same",
    "detection_output_param.save_output_param": "where detections are written to as well; the top is the same",
    "detection_output_param.visualize": "draws detections; the top is the same",
    "detection_output_param.visualize_threshold": "draws detections; the top is the same",
    "engine": "chooses between equal implementations",
    "loss_param": "of a loss",
    "multinode": "of training on several machines",
    "param": "learning rates and the like; the name that shares a blob is a field of BVLC's",
    "parameter_param.blob_filler": "starts training",
    "transform_param": "of data layers",
}
# Fields of forks that have no effect with one value only.
WITHOUT_EFFECT_AS: Mapping[str, bool] = {
    "batch_norm_param.add_eps_before_sqrt": True,  # what Caffe does
    "dropout_param.sample_weights_test": False,  # true is dropout at inference
    "dropout_param.scale_train": True,  # what Caffe does; false scales at inference instead
}
# What their other value does, and what to do about it.
OTHERWISE: Mapping[str, str] = {
    "batch_norm_param.add_eps_before_sqrt": "eps is added to the deviation then, not to the variance",
    "dropout_param.sample_weights_test": (
        "values are dropped at inference too then, so that every run gives other results (Bayesian SegNet averages "
        "many). Set it to false for the network's mean answer; for samples, run the original"
    ),
    "dropout_param.scale_train": (
        "at inference the layer multiplies by 1 - dropout_ratio then: put a Power layer with that scale in its place"
    ),
}
# Fields by which a layer with statistics uses them in every phase.
USES_STATISTICS = ("use_global_stats", "bn_mode", "frozen")

PYTHON = "Python"  # layers of Python code, which Caffe runs


class Fields:
    """The unknown fields of one network. Faults that stop it go to `problems`."""

    def __init__(
        self, kinds: Registry, ignore: Sequence[str], problems: Problems, others: Collection[str] = ()
    ) -> None:
        self.kinds = kinds
        self.others = others  # types that have a meaning without a class; of an unknown type only the type is told
        self.ignore = ignore
        self.problems = problems
        self.unnamed = False  # whether fields of a fork stand in a binary, by their numbers only
        self._warnings: list[str] = []
        self._ignored: set[str] = set()  # names in `ignore` that have matched

    def header(self, faults: Collection[Fault]) -> None:
        """Those outside of layers."""
        for fault in self._left(faults, "the header"):
            self.problems.add(f"line {fault.line}: {_said(fault)}" if fault.line else _said(fault))

    def rules(self, layers: Sequence[LayerDef]) -> None:
        """Those in rules, whether or not the layer runs: they may be why it does."""
        for layer in layers:
            for fault in self._left(layer.rule_faults, layer.where):
                self.unnamed = self.unnamed or fault.line is None
                self.problems.add(_said(fault), _place(layer, fault.line))

    def settle(self, layer: LayerDef, where: str) -> Params | None:
        """The layer's parameters, with what its type takes of the unknown fields; None where a fault stops it."""
        kind = kind_of(layer, self.kinds)
        params = dict(layer.params)
        faults: list[tuple[str, int | None]] = []  # with their lines
        try:
            left = self._left(layer.faults, where)
            if kind is None and layer.type and layer.type not in self.others:
                left = [fault for fault in left if fault.path and not fault.path[-1].endswith("_param")]
            left = [fault for fault in left if kind is None or not _taken(fault, kind, layer, params)]
            faults += [(_said(fault), fault.line) for fault in left]
        except LayerFault as misfit:
            faults.append((str(misfit), None))
        if kind is not None:
            self._drop_known(params, kind, where)
            self._name_nan(params.get(kind.message, {}), kind, where)
        self._name_phase(layer, params, kind, where)
        if layer.line is None:
            faults += [(text, None) for text in self._misread(layer, kind, where)]
            self.unnamed = self.unnamed or bool(faults)
        if not layer.type and not faults:  # a type that its form does not know is a fault already
            faults.append(("it has no type; every layer needs one", None))
        for text, line in faults:
            self.problems.add(text, _place(layer, line))
        return None if faults else params

    def advice(self) -> str:
        """What to do about fields without names."""
        return (
            "A binary names fields by numbers only, which forks of Caffe use for different things: give the network's "
            "prototxt, which names them (--prototxt)."
        )

    def all_warnings(self) -> list[str]:
        """One for each field passed over, and for each name that was to be, but did not occur."""
        unused = [name for name in self.ignore if name not in self._ignored]
        return [
            *self._warnings,
            *(f"--ignore-field {name}: no layer that counts has a field of that name to pass over" for name in unused),
        ]

    def _left(self, faults: Collection[Fault], where: str) -> list[Fault]:
        """The faults that count."""
        left = []
        for fault in faults:
            names = {".".join(fault.path[: i + 1]) for i in range(len(fault.path))} | {*fault.path[-1:]}
            if not self._passed_over(names, ".".join(fault.path), where) and not _without_effect(fault):
                left.append(fault)
        return left

    def _passed_over(self, names: set[str], field: str, where: str) -> bool:
        said = names & set(self.ignore)
        if said:
            self._ignored |= said
            self._warnings.append(f"{where}: the field {field} is passed over (--ignore-field), whatever it does")
        return bool(said)

    def _drop_known(self, params: dict[str, Any], kind: type[Layer], where: str) -> None:
        """Takes fields to pass over out of the type's own message: of a fork's message all are known by name only."""
        own = params.get(kind.message, {})
        known = {field.name for field in fields(kind)}
        left = {
            name: value
            for name, value in own.items()
            if name in known or not self._passed_over({name, f"{kind.message}.{name}"}, f"{kind.message}.{name}", where)
        }
        if len(left) < len(own):
            params[kind.message] = left

    def _name_nan(self, own: Params, kind: type[Layer], where: str) -> None:
        """Numbers of the type's own message that are NaN: Caffe runs on with them, and so do we, but not silently."""
        for name, value in own.items():
            if any(
                isinstance(item, float) and isnan(item) for item in (value if isinstance(value, tuple) else [value])
            ):
                self._warnings.append(f"{where}: {kind.message}.{name} is NaN; is that meant?")

    def _name_phase(self, layer: LayerDef, params: Params, kind: type[Layer] | None, where: str) -> None:
        """A layer's own phase, which Caffe keeps where a text gives it, and fills in itself in what it saves."""
        if layer.line is None or layer.rest.get("phase") != "TRAIN":
            return
        own = params.get(kind.message, {}) if kind else {}
        if layer.type == "Dropout":
            does = "drops values at random"
        elif kind is not None and kind.statistics and not any(own.get(name) for name in USES_STATISTICS):
            does = "normalises by the statistics of each batch"
        else:
            return
        self._warnings.append(
            f"{where}: its phase: TRAIN is passed over, with which Caffe {does}, whatever the network's phase; take it "
            "out, or see what it is for"
        )

    def _misread(self, layer: LayerDef, kind: type[Layer] | None, where: str) -> list[str]:
        """Parameters that a binary's numbers seem to name, but which a layer of a fork's type cannot have."""
        if "round_mode" in layer.params.get("pooling_param", {}):
            self._warnings.append(
                f"{where}: a binary's pooling_param.round_mode has the number that some forks use for ceil_mode, which "
                "says the opposite; if the network comes from such a fork, give its prototxt"
            )
        if kind is None or not kind.message or is_bvlc(kind.message):
            return []
        return [
            f"a layer of type {layer.type} has no {name}: a fork of Caffe means something else by its number"
            for name in layer.params
            if name != kind.message
        ]


def kind_of(layer: LayerDef, kinds: Registry) -> type[Layer] | None:
    """The class of a layer's type. Python code goes by the name of its own class, where one reads `python_param`."""
    if layer.type != PYTHON or PYTHON in kinds:
        return kinds.get(layer.type)
    kind = kinds.get(python_class(layer))
    return kind if kind is not None and kind.message == "python_param" else None


def python_class(layer: LayerDef) -> str:
    """The name of the class that a Python layer runs."""
    return str(layer.params.get("python_param", {}).get("layer", "")) if layer.type == PYTHON else ""


def _said(fault: Fault) -> str:
    why = OTHERWISE.get(".".join(fault.path))
    return f"{'.'.join(fault.path)}: {str(fault.value).lower()}: {why}" if why else fault.text


def _place(layer: LayerDef, line: int | None) -> str:
    """A layer, and a line of it that is not its first."""
    return layer.where if line in (None, layer.line) else f"{layer.where}: line {line}"


def _without_effect(fault: Fault) -> bool:
    dotted = ".".join(fault.path)
    if dotted in WITHOUT_EFFECT_AS:
        return bool(fault.value is WITHOUT_EFFECT_AS[dotted])
    return bool(fault.path) and (fault.path[0] in WITHOUT_EFFECT or dotted in WITHOUT_EFFECT)


def _taken(fault: Fault, kind: type[Layer], layer: LayerDef, params: dict[str, Any]) -> bool:
    """Puts the value among the parameters of the type's own message; False where the type has no place for it."""
    if not fault.path or fault.path[0] != kind.message or fault.value is None:
        return False
    alike = [other.value for other in layer.faults if other.path == fault.path]
    own: Params
    if len(fault.path) == 1 and isinstance(fault.value, Mapping) and len(alike) == 1:
        own = fault.value
    elif len(fault.path) == 2 and fault.path[1] in {field.name for field in fields(kind)}:
        own = {**params.get(kind.message, {}), fault.path[1]: alike if len(alike) > 1 else fault.value}
    else:
        return False
    params[kind.message] = {**own, **fitted(kind, own)}
    return True
