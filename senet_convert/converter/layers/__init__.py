"""The layer types: one visible dict, from Caffe's type name to the class that knows it."""

from __future__ import annotations

from .activation import BNLL, ELU, Clip, PReLU, ReLU, Sigmoid, Swish, TanH, Threshold
from .arithmetic import AbsVal, Exp, Log, Power
from .base import Layer, LayerFault
from .combine import Axpy, Bias, Concat, Eltwise, Scale
from .convolution import Convolution, InnerProduct
from .deconvolution import Deconvolution, Im2col
from .depthwise import ConvolutionDepthwise, DepthwiseConvolution
from .detection_output import DetectionOutput
from .forks_activation import BReLU, CReLU, HardSigmoid, HardSwish, Mish, ReLU6
from .forks_move import CropCenter, Reorg, Reverse, Transpose
from .forks_normalise import BN, CuDNNBatchNorm, L2Norm, Normalize, NormL2
from .forks_shape import Interp, Permute, ShuffleChannel
from .lookup import BatchReindex, Embed
from .normalise import LRN, MVN, BatchNorm, Softmax
from .parameter import Parameter
from .pooling import SPP, Pooling
from .prior_box import PriorBox
from .psroi_pooling import PSROIPooling
from .recurrent import LSTM, RNN
from .reduction import ArgMax, Reduction
from .roi_pooling import ROIPooling
from .select import CROP, Crop, Filter, Slice, Tile
from .shape import Flatten, Reshape, View
from .unpooling import Unpooling, Upsample

__all__ = ["LAYERS", "Layer", "LayerFault", "View"]

LAYERS: dict[str, type[Layer]] = {
    "AbsVal": AbsVal,
    "ArgMax": ArgMax,
    "Axpy": Axpy,
    "BN": BN,
    "BNLL": BNLL,
    "BReLU": BReLU,
    "BatchNorm": BatchNorm,
    "BatchReindex": BatchReindex,
    "Bias": Bias,
    "CROP": CROP,
    "CReLU": CReLU,
    "Clip": Clip,
    "Concat": Concat,
    "Convolution": Convolution,
    "ConvolutionDepthwise": ConvolutionDepthwise,
    "Crop": Crop,
    "CropCenter": CropCenter,
    "CuDNNBatchNorm": CuDNNBatchNorm,
    "Deconvolution": Deconvolution,
    "DepthwiseConvolution": DepthwiseConvolution,
    "DetectionOutput": DetectionOutput,
    "ELU": ELU,
    "Eltwise": Eltwise,
    "Embed": Embed,
    "Exp": Exp,
    "Filter": Filter,
    "Flatten": Flatten,
    "HardSigmoid": HardSigmoid,
    "HardSwish": HardSwish,
    "Im2col": Im2col,
    "InnerProduct": InnerProduct,
    "Interp": Interp,
    "L2Norm": L2Norm,
    "LRN": LRN,
    "LSTM": LSTM,
    "Log": Log,
    "MVN": MVN,
    "Mish": Mish,
    "NormL2": NormL2,
    "Normalize": Normalize,
    "PReLU": PReLU,
    "PSROIPooling": PSROIPooling,
    "Parameter": Parameter,
    "Permute": Permute,
    "Pooling": Pooling,
    "Power": Power,
    "PriorBox": PriorBox,
    "RNN": RNN,
    "ROIPooling": ROIPooling,
    "ReLU": ReLU,
    "ReLU6": ReLU6,
    "Reduction": Reduction,
    "Reorg": Reorg,
    "Reshape": Reshape,
    "Reverse": Reverse,
    "SPP": SPP,
    "Scale": Scale,
    "ShuffleChannel": ShuffleChannel,
    "Sigmoid": Sigmoid,
    "Slice": Slice,
    "Softmax": Softmax,
    "Swish": Swish,
    "TanH": TanH,
    "Threshold": Threshold,
    "Tile": Tile,
    "Transpose": Transpose,
    "Unpooling": Unpooling,
    "Upsample": Upsample,
}
