"""What a layer type is: Caffe's parameters with Caffe's defaults, and its meaning three times over.

A layer type is a frozen dataclass. Its fields bear the names of the prototxt, with Caffe's default values; `shapes`,
`torch` and `onnx` stand side by side. A layer computes in the dtype it is given: the check runs the same code in
float64 and in float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Shape = tuple[int, ...]
Array = NDArray[Any]

ULP = 2.0**-23  # the largest relative change by one more rounding of float32

# Fields that steer training or choose between equal implementations; they never change what inference computes.
WITHOUT_EFFECT = frozenset({"engine", "filler", "weight_filler", "bias_filler"})

# Of a Python layer: which code it runs, which its class stands for, and how it is run.
OF_PYTHON = frozenset({"module", "layer", "share_in_parallel"})


class LayerFault(Exception):  # noqa: N818 - a fault of the file, which is caught and told
    """A layer cannot be what the file says. The message has the numbers; who catches it adds file and layer."""


class Emitter(Protocol):
    """Adds ONNX nodes for one layer; values and weights go by name."""

    opset: int

    def __call__(self, op: str, inputs: Sequence[str], **attributes: object) -> str:
        """Add a node with one output; gives the output's name."""

    def several(self, op: str, inputs: Sequence[str], count: int, **attributes: object) -> tuple[str, ...]:
        """Add a node with `count` outputs."""

    def constant(self, array: Array) -> str:
        """Add a small constant (a shape, axes, a scalar of the layer's definition)."""

    def shape(self, value: str) -> Shape:
        """Caffe's shape of one of the layer's bottoms or weights."""

    def array(self, weight: str) -> Array:
        """The values of one of the layer's weights."""


@dataclass(frozen=True)
class Layer:
    """The base of all layer types; see the module's docstring.

    Not of the prototxt are `tops`, how many tops the file names, and `sound`: whether every weight of the network is
    finite, so that no value need be NaN or infinite. Where it is False, layers do with these what Caffe's C++ does;
    where it is True they use what is quickest.
    """

    tops: int = field(default=1, kw_only=True)
    sound: bool = field(default=True, kw_only=True)

    message: ClassVar[str] = ""  # the prototxt message with its parameters, such as convolution_param
    ignored: ClassVar[frozenset[str]] = WITHOUT_EFFECT
    takes: ClassVar[tuple[int, int | None]] = (1, 1)  # how many bottoms: at least, at most
    gives: ClassVar[tuple[int, int | None]] = (1, 1)  # how many tops
    namesakes: ClassVar[str] = ""  # what forks mean by this type that takes other numbers of blobs, for messages
    in_place: ClassVar[bool] = True  # whether Caffe lets top and bottom be one blob
    weight_names: ClassVar[tuple[str, ...]] = ()
    statistics: ClassVar[frozenset[str]] = frozenset()  # weights that no solver learns
    open_axes: ClassVar[tuple[int, ...]] = ()  # axes of the tops whose length only the data tell; `shapes` says 1
    pointwise: ClassVar[bool] = False  # whether each value of the top is made of one of the bottom, by one function
    moves_cells: ClassVar[bool] = False  # whether cells of a map may change places although its size stays
    by_coordinates: ClassVar[bool] = False  # whether a parameter follows from where cells lie, see `shifted`
    keeps_class_order: ClassVar[bool] = False  # whether axis 1 of the top is the classes that axis 1 of the bottom is
    note: ClassVar[str] = ""  # which meaning is used, where forks of Caffe have several for one type: a warning

    @classmethod
    def parse(cls, params: Mapping[str, Any], tops: int = 1) -> Self:
        """The layer with the parameters that a file sets. Raises LayerFault for one that it does not know."""
        given = params.get(cls.message, {}) if cls.message else {}
        known = {field.name for field in fields(cls)} - {"tops", "sound"}
        ignored = cls.ignored | (OF_PYTHON if cls.message == "python_param" else frozenset())
        unknown = sorted(set(given) - known - ignored)
        if unknown:
            raise LayerFault(f"{cls.message}: {', '.join(unknown)} is not supported for layers of type {cls.__name__}")
        required = {field.name for field in fields(cls) if _is_required(field)}
        missing = sorted(required - set(given))
        if missing:
            raise LayerFault(f"{cls.message} lacks {', '.join(missing)}, which has no default")
        layer = cls(**{key: _plain(value) for key, value in given.items() if key in known}, tops=tops)
        layer.validate()
        return layer

    def validate(self) -> None:
        """Raise LayerFault when parameters exclude each other."""

    def resolution(self, x: Tensor) -> Tensor | float:
        """Of a pointwise layer: the absolute error of float32's approximations of it, at each value of the bottom."""
        return 0.0

    def shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """Shapes of the tops; raises LayerFault where Caffe's shape arithmetic has no answer."""
        return tuple(bottoms)

    @classmethod
    def works_in_place(cls, params: Mapping[str, Any]) -> bool:  # noqa: ARG003 - for types that override it
        """`in_place` with the parameters that a file sets: for types of which only some forms can."""
        return cls.in_place

    def shares(self, bottoms: int) -> bool:
        """Whether Caffe's top is the same memory as its bottom, where the layer has so many bottoms."""
        return False

    def index_limits(self, bottoms: Sequence[Shape]) -> Mapping[int, int]:
        """Of bottoms that hold whole numbers: the number of the bottom, and what its values must stay below."""
        return {}

    def jumps(self) -> tuple[int, ...]:
        """Numbers of the tops that jump: indices and comparisons, which the least change of a bottom may turn over."""
        return ()

    def nearby(self) -> tuple[Layer, ...]:
        """This layer, and where it compares what it has computed itself, its forms with the limits moved by the error
        of that computation in float32: what a correct engine may have decided by.
        """
        return (self,)

    def joined(self, tops: Sequence[Array]) -> Array:
        """Of a layer with `open_axes`: what one batch gives for images that were run one by one."""
        raise NotImplementedError

    def weights(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        """Shapes of the blobs that Caffe learns for these bottoms, in the file's order."""
        return ()

    def prepare(self, blobs: Sequence[Array]) -> tuple[Array, ...]:
        """The arrays that compute, from those in the file: one for each of `weight_names` that is in use."""
        return tuple(blobs)

    def to_blobs(self, arrays: Sequence[Array]) -> tuple[Array, ...]:
        """The blobs as Caffe stores them, from the arrays that compute: the inverse of `prepare`."""
        return tuple(arrays)

    def outputs(self, weight: Shape) -> int | None:
        """The num_output that a first blob of this shape stands for; None for types that have no such parameter."""
        return None

    def class_axis(self, weight: Shape) -> int | None:
        """Of a classifier, the axis of a weight of this shape along which the classes stand; None for other types."""
        return None

    def alike(self, have: Shape, need: Shape) -> bool:
        """Whether a blob of shape `have` holds what one of `need` does: forks save the same values with other axes."""
        return False

    def cause(self, have: Sequence[Shape]) -> str:
        """What most likely is behind blobs that do not fit, as the end of a message; '' where nobody knows."""
        return ""

    def is_learned(self, number: int, count: int) -> bool:
        """Whether a solver learns blob `number` of `count`: it is no statistic, nor one that gets no name."""
        names = self.names(count)
        return not self.statistics or (number < len(names) and names[number] not in self.statistics)

    def doubt(self, blobs: Sequence[Array]) -> str:
        """What a person should know of these blobs, as a warning before the layers' names; '' for nothing."""
        return ""

    def grid(self, bottom: Shape) -> tuple[tuple[float, float], tuple[float, float]] | None:
        """Where cell i of an (N, C, H, W) bottom lies on the top, along height and width: factor * i + shift. None
        where no such line says it; a layer that changes the size says so by that already.
        """
        return None if self.moves_cells else ((1.0, 0.0), (1.0, 0.0))

    def shifted(self, offset: tuple[int, int]) -> Self:
        """Of a type with `by_coordinates`: with the rows and columns of the first bottom that lie before the second."""
        raise NotImplementedError

    def caution(self) -> str:
        """What a person should know of these parameters, as a warning before the layers' names; '' for nothing."""
        return ""

    def names(self, count: int) -> tuple[str, ...]:
        """Names of the arrays that `prepare` makes of `count` blobs."""
        return self.weight_names[:count]

    def torch(self, bottoms: Sequence[Tensor], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The tops, by PyTorch, in the dtype of the bottoms."""
        raise NotImplementedError

    def onnx(self, emit: Emitter, bottoms: Sequence[str], weights: Sequence[str]) -> tuple[str, ...]:
        """The tops, as ONNX nodes."""
        raise NotImplementedError

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        """Multiply-accumulates of one forward pass; counted for what dominates: convolutions and inner products."""
        return 0


def _plain(value: Any) -> Any:
    """Messages as dicts, all the way down: what holds a read-only view can be neither copied nor pickled."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return tuple(_plain(item) for item in value) if isinstance(value, tuple) else value


def _is_required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def axis_of(axis: int, rank: int, what: str = "axis") -> int:
    """Caffe's CanonicalAxisIndex: negative axes count from the end."""
    if not -rank <= axis < rank:
        raise LayerFault(f"{what} {axis} is out of range for a blob of {rank} axes")
    return axis % rank


def times(shape: Shape) -> str:
    """'2x17x4x5', for messages."""
    return "x".join(map(str, shape)) or "scalar"


def int64(*values: int) -> Array:
    """A constant for ONNX operators that take shapes and axes as inputs."""
    return np.asarray(values, np.int64)


def scalar(emit: Emitter, value: float) -> str:
    """A float32 constant without axes."""
    return emit.constant(np.asarray(value, np.float32))


def scaled(emit: Emitter, x: str, factor: float) -> str:
    """x * factor; x itself where the factor is 1."""
    return x if factor == 1 else emit("Mul", [x, scalar(emit, factor)])


def reduced(emit: Emitter, op: str, x: str, axes: Sequence[int], keepdims: bool = True) -> str:
    """A Reduce* operator: ReduceSum takes its axes as an input from opset 13 on, the others from opset 18 on."""
    if op == "ReduceSum" or emit.opset >= 18:
        return emit(op, [x, emit.constant(int64(*axes))], keepdims=int(keepdims))
    return emit(op, [x], axes=list(axes), keepdims=int(keepdims))
