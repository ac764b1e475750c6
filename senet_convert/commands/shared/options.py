"""Options that several commands take, and what they say as the rooms take it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...errors import ConvertError
from .inputs import PROTOTXT, PYTHON
from .messages import warn
from .param_types import Mean, Number, Numbers, Resize, Shapes

if TYPE_CHECKING:
    from ...converter.graph.draft import Options
    from ...converter.layers import Layer
    from ...deploy.model import Model


def talk(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options of every command that says something."""
    command = click.option("-q", "--quiet", is_flag=True, help="Nothing but errors on stderr.")(command)
    return click.option("-v", "--verbose", is_flag=True, help="Show the traceback of an unexpected fault.")(command)


def network(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that say which network a file means."""
    for option in reversed(
        [
            click.option(
                "--prototxt",
                type=PROTOTXT,
                help="The network's definition; default: the one beside the caffemodel. Where that is of another "
                "network, give the caffemodel itself, which mostly holds its definition.",
            ),
            click.option(
                "--input-shape",
                "shapes",
                multiple=True,
                type=Shapes(),
                metavar="[NAME=]N,C,H,W",
                help="Shape of an input that the files leave open.",
            ),
            click.option("--phase", type=click.Choice(["TEST", "TRAIN"]), default="TEST", show_default=True),
            click.option("--stage", "stages", multiple=True, help="A stage that include and exclude rules ask for."),
            click.option("--level", type=int, default=0, show_default=True),
            click.option(
                "--layers",
                "layer_files",
                multiple=True,
                type=PYTHON,
                help="A Python file with layer types of your own.",
            ),
            click.option(
                "--ignore-field",
                "ignore_fields",
                multiple=True,
                metavar="NAME",
                help="Pass over a field that is not understood, such as pooling_param.pad_type, on your own judgement.",
            ),
        ]
    ):
        command = option(command)
    return command


def engine(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that say what a model runs on."""
    for option in reversed(
        [
            click.option(
                "--provider",
                type=click.Choice(["auto", "cpu", "cuda", "tensorrt", "openvino"]),
                default="auto",
                show_default=True,
                help="What computes; one that does not really start is an error.",
            ),
            click.option("--threads", type=click.IntRange(1), help="Threads that compute; default: the usable cores."),
            click.option(
                "--engine-cache",
                type=click.Path(file_okay=False, path_type=Path),
                help="Folder where TensorRT keeps its engines and timings.",
            ),
            click.option("--batch", type=click.IntRange(1), default=32, show_default=True, help="Images per run."),
            click.option(
                "--ten-crop",
                is_flag=True,
                help="Average over ten crops of each image: corners and centre, and these mirrored.",
            ),
        ]
    ):
        command = option(command)
    return command


PREPROCESSING = ("resize", "crop", "mean", "scale", "resample", "color")


def preprocessing(mean: click.ParamType[Any], metavar: str, source: str) -> Callable[[Any], Any]:
    """Options that say what pictures go through; `source` is where it comes from without them."""
    made = [
        click.option(
            "--resize",
            type=Resize(),
            metavar="N|squash",
            help="Preprocessing: length of the shorter side before the crop, in pixels; or 'squash' for no crop.",
        ),
        click.option("--crop", type=click.IntRange(1), help="Preprocessing: size of the centre crop, the input's."),
        click.option("--mean", type=mean, metavar=metavar, help=f"Preprocessing: mean to subtract; default: {source}."),
        click.option("--scale", type=Number(), help="Preprocessing: factor after the mean."),
        click.option("--resample", type=click.Choice(["opencv", "pil"]), help="Preprocessing: whose resize."),
        click.option("--color", type=click.Choice(["bgr", "rgb"]), help="Preprocessing: order of the channels."),
    ]

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(made):
            command = option(command)
        return command

    return decorate


stated_preprocessing = preprocessing(Mean(), "B,G,R|FILE", "the prototxt's; a mean.binaryproto is averaged per channel")
asked_preprocessing = preprocessing(Numbers(), "B,G,R", "what the model carries; for this run, as are the following")
strict = click.option("--strict", is_flag=True, help="Preprocessing that is assumed, not known, is an error.")


def options(given: Mapping[str, Any]) -> Options:
    """What the options of `network` say, as the converter takes it."""
    from ...converter.graph.draft import Options
    from ...proto import State

    state = State(given["phase"], given["level"], given["stages"])
    return Options(state, _by_input(given["shapes"]), own_layers(given["layer_files"]), given["ignore_fields"])


def _by_input(shapes: Iterable[tuple[str | None, tuple[int, ...]]]) -> dict[str | None, tuple[int, ...]]:
    found: dict[str | None, tuple[int, ...]] = {}
    for name, shape in shapes:
        if name in found:
            whose = f"of input '{name}' is" if name else "without a name is"
            both = " and ".join(",".join(map(str, given)) for given in (found[name], shape))
            raise ConvertError(f"--input-shape: the shape {whose} given twice, as {both}; keep one")
        found[name] = shape
    return found


def own_layers(files: Iterable[Path]) -> dict[str, type[Layer]]:
    """The layer types of the user's own files. Raises ConvertError for one that two of them bring."""
    found: dict[str, type[Layer]] = {}
    for path in files:
        from ...converter.layers.registry import from_file

        for name, kind in from_file(path).items():
            if name in found:
                raise ConvertError(f"{path}: layer type '{name}' comes from another file of --layers too; keep one")
            found[name] = kind
    return found


def open_model(path: Path, given: Mapping[str, Any]) -> Model:
    """The model that the options of `engine` describe. Its threads do not spin: others decode images on their cores."""
    from ...deploy.model import Model as Opened
    from ...deploy.runtime.providers import Tuning

    tuning = Tuning(cache=given["engine_cache"])
    model = Opened.open(path, given["provider"], given["threads"], spin=False, tuning=tuning)
    asked = model.asked({name: given[name] for name in PREPROCESSING})
    doubt = asked.origins.warning(asked.preprocess) if asked.origins else None
    if doubt and given["strict"]:
        raise ConvertError(f"{asked.path}: {doubt}")
    return asked.with_ten_crops() if given["ten_crop"] else asked


def tell_preprocessing(model: Model, quiet: bool) -> None:
    """On stderr, what pictures go through, and what of it the user should know better."""
    from ...deploy.images.origins import described

    if not quiet:
        click.echo(f"preprocessing: {described(model.preprocess, model.origins)}", err=True)
        doubt = model.origins.warning(model.preprocess) if model.origins else None
        warn([doubt] if doubt else [])
