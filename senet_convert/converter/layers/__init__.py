"""The layer types: one visible dict, from Caffe's type name to the class that knows it."""

from __future__ import annotations

from .activation import BNLL, ELU, Clip, PReLU, ReLU, Sigmoid, Swish, TanH, Threshold
from .arithmetic import AbsVal, Exp, Log, Power
from .base import Layer, LayerFault
from .combine import Axpy, Bias, Concat, Eltwise, Scale
from .convolution import Convolution, InnerProduct
from .deconvolution import Deconvolution, Im2col
from .lookup import BatchReindex, Embed
from .normalise import LRN, MVN, BatchNorm, Softmax
from .parameter import Parameter
from .pooling import SPP, Pooling
from .recurrent import LSTM, RNN
from .reduction import ArgMax, Reduction
from .select import Crop, Filter, Slice, Tile
from .shape import Flatten, Reshape, View

__all__ = ["LAYERS", "Layer", "LayerFault", "View"]

LAYERS: dict[str, type[Layer]] = {
    "AbsVal": AbsVal,
    "ArgMax": ArgMax,
    "Axpy": Axpy,
    "BNLL": BNLL,
    "BatchNorm": BatchNorm,
    "BatchReindex": BatchReindex,
    "Bias": Bias,
    "Clip": Clip,
    "Concat": Concat,
    "Convolution": Convolution,
    "Crop": Crop,
    "Deconvolution": Deconvolution,
    "ELU": ELU,
    "Eltwise": Eltwise,
    "Embed": Embed,
    "Exp": Exp,
    "Filter": Filter,
    "Flatten": Flatten,
    "Im2col": Im2col,
    "InnerProduct": InnerProduct,
    "LRN": LRN,
    "LSTM": LSTM,
    "Log": Log,
    "MVN": MVN,
    "PReLU": PReLU,
    "Parameter": Parameter,
    "Pooling": Pooling,
    "Power": Power,
    "RNN": RNN,
    "ReLU": ReLU,
    "Reduction": Reduction,
    "Reshape": Reshape,
    "SPP": SPP,
    "Scale": Scale,
    "Sigmoid": Sigmoid,
    "Slice": Slice,
    "Softmax": Softmax,
    "Swish": Swish,
    "TanH": TanH,
    "Threshold": Threshold,
    "Tile": Tile,
}
