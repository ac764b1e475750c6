"""Small configurations, none of them shaped like a released network."""

from senet_convert.converter.families import (
    Block,
    Conv,
    InceptionBlock,
    Pool,
    ResidualConfig,
    SEBNInceptionConfig,
    stage,
)

CEIL = Pool("max", 3, 2, ceil=True)

RESNET = ResidualConfig(
    stem=(Conv(6, 3, 2, 1),),
    stages=(
        stage(Block((4, 4, 8), 2, downsample=1), 1),
        stage(Block((6, 6, 16), 4, stride=2, downsample=1), 2),
        stage(Block((8, 8, 24), 3, stride=2, downsample=3), 2),
    ),
    num_classes=5,
)
# The first block has no projection, stem and pools are not square, and the classifier sees more than one cell.
ODD_RESNET = ResidualConfig(
    stem=(Conv(8, (5, 3), (2, 1), (2, 1)),),
    stages=(stage(Block((4, 5, 8), 1), 2), stage(Block((3, 7, 9), 5, stride=2, downsample=1), 1)),
    pool0=Pool("max", (2, 3), 2, (0, 1)),
    avg_pool=Pool("avg", (2, 4), stride=(1, 4)),
    pooled=(3, 2),
    num_classes=3,
    in_channels=1,
    eps=0.001,
)
RESNEXT = ResidualConfig(
    stem=(Conv(6, 7, 2, 3),),
    stages=(
        stage(Block((8, 8, 16), 4, groups=4, downsample=1), 2),
        stage(Block((12, 12, 20), 5, stride=2, groups=4, downsample=1), 1),
    ),
    num_classes=7,
)
SENET = ResidualConfig(
    stem=(Conv(4, 3, 2, 1), Conv(4, 3, 1, 1), Conv(8, 3, 1, 1)),
    stages=(
        stage(Block((6, 12, 12), 3, groups=3, downsample=1), 1),
        stage(Block((8, 16, 16), 2, stride=2, groups=2, downsample=3), 2),
    ),
    num_classes=4,
    dropout=0.2,
)
INCEPTION = SEBNInceptionConfig(
    stem=(Conv(6, 7, 2, 3), CEIL, Conv(5, 1), Conv(8, 3, 1, 1)),
    blocks=(
        InceptionBlock(
            (
                (Conv(4, 1),),
                (Conv(3, 1), Conv(5, 3, 1, 1)),
                (Pool("avg", 3, 1, 1), Conv(3, 1)),
            ),
            squeeze=3,
        ),
        InceptionBlock(((Conv(3, 1), Conv(6, 3, 2, 1)), (CEIL,)), squeeze=4),
        InceptionBlock(((Conv(4, 1),), (Pool("max", 3, 1, 1, ceil=True),)), squeeze=2),
    ),
    avg_pool=Pool("avg", 2, 1),
    pooled=3,
    num_classes=6,
)
