"""The layer types: one visible dict, from Caffe's type name to the class that knows it."""

from __future__ import annotations

from .activation import ReLU, Sigmoid
from .base import Layer, LayerFault
from .combine import Axpy, Concat, Scale
from .convolution import Convolution, InnerProduct
from .normalise import BatchNorm, Softmax
from .pooling import Pooling
from .shape import Reshape, View

__all__ = ["LAYERS", "Layer", "LayerFault", "View"]

LAYERS: dict[str, type[Layer]] = {
    "Axpy": Axpy,
    "BatchNorm": BatchNorm,
    "Concat": Concat,
    "Convolution": Convolution,
    "InnerProduct": InnerProduct,
    "Pooling": Pooling,
    "ReLU": ReLU,
    "Reshape": Reshape,
    "Scale": Scale,
    "Sigmoid": Sigmoid,
    "Softmax": Softmax,
}
