"""The sections of report.html: each says one thing about a report, or nothing where the report does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from . import layer_table, plot
from .markup import Html, code, facts, figure, folding, join, listing, plural, row, shape, table, tag, td
from .record import grouped, record

Report = Mapping[str, Any]

ENGINES = {
    "generic float32": "PyTorch, layer by layer, following the Caffe definition",
    "PyTorch net": "the readable PyTorch network that model.safetensors belongs to",
    "onnxruntime": "the ONNX model; the outputs of model.onnx itself are held to the same budget",
    "reference": "blobs that were computed elsewhere and given as a file",
}
COLOURS = {"bgr": "blue, green, red", "rgb": "red, green, blue"}
RESAMPLES = {
    "opencv": "bilinear, no antialiasing (OpenCV's INTER_LINEAR)",
    "pil": "bilinear, antialiased (Pillow's filter)",
}
WARNINGS, LABELS, INPUTS, VALUES, ALIKE = 12, 20, 10, 12, 3  # how many are shown before the rest is folded away


def _method(report: Report) -> Html | None:
    check = report["check"]
    if check is None:
        return None
    budget = check["budget"]
    floor, own_floor = figure(budget["floor"]), figure(budget["reference_floor"])
    referred = plot.REFERENCE in check["engines"]
    given = f"; the reference, to within {own_floor} at least" if referred else ""
    short = (
        f"The network was run on {check['inputs']} in 64-bit arithmetic, which counts as the truth, and again in "
        "ordinary 32-bit arithmetic by each engine listed below; every intermediate result (blob) had to agree with "
        f"the truth to within {budget['factor']:g} times the rounding error that 32-bit arithmetic makes by itself, or "
        f"{floor} of the blob's largest value where that is more{given}. Every weight in the files "
        "written was read back and compared with the caffemodel, byte by byte."
    )
    exact = (
        "The rounding error of a blob is the larger one of two 32-bit runs of the same graph, in one of which every "
        "value is rounded once more; of a layer that works value by value, such as a Sigmoid, at least what the "
        "error of its input makes of it. Every error is a maximum norm: the largest deviation of any value, divided by "
        "the largest absolute value of the blob. Where several layers write a blob in place, its final content counts."
    )
    if _with_factors(report):
        exact += (
            " BatchNorm's mean and variance are stored divided by their scale factor, in float32, as Caffe uses them; "
            "they were compared after this division."
        )
    own = (
        "The reference has rounding errors of its own, which the comparison includes: it is allowed "
        f"{own_floor} at least."
    )
    more = tag("p", own) if referred else None
    return join((tag("p", short, class_="lead"), folding("The definitions, exactly", join((tag("p", exact), more)))))


def _with_factors(report: Report) -> bool:
    """Are there layers whose statistics Caffe keeps with a scale factor?"""
    return any(layer["type"] == "BatchNorm" for layer in report["layers"])


def _errors(report: Report) -> Html | None:
    check = report["check"]
    if check is None:
        return None
    places = layer_table.anchors(report["layers"])
    rows = (_worst(engine, worst, places) for engine, worst in check["worst"].items())
    head = ("Engine", "Nearest to its budget", "Error", "Budget", "Used")
    blobs = [errors for layer in report["layers"] for errors in layer.get("errors", ())]
    drawn = plot.draw(blobs, check["engines"]) if blobs else None
    return join((table("The worst blob of each engine", head, rows, (2, 3, 4)), drawn))


def _worst(engine: str, worst: Mapping[str, Any] | None, places: Mapping[str, str]) -> Html:
    who = join((engine, tag("small", ENGINES[engine]) if engine in ENGINES else None))
    if worst is None:
        return row(who, tag("td", "gives no blob that could be compared", colspan=4))
    name, share = code(worst["blob"]), worst["of_budget"]
    over = share is None or share > 1
    return row(
        who,
        td(tag("a", name, href=f"#{places[worst['blob']]}") if worst["blob"] in places else name, "name"),
        td(figure(worst["error"]), "n over" if over else "n"),
        td(figure(worst["budget"]), "n"),
        td("over budget" if share is None else f"{100 * share:.0f} %", "n over" if over else "n"),
    )


def _weights(report: Report) -> Html:
    weights = report["weights"]
    rows = (
        row(
            code(item["file"]),
            td(f"{item['arrays']:,}", "n"),
            td(f"{item['values']:,}", "n"),
            td("identical, byte for byte") if item["bit_exact"] else td(tag("strong", "different"), "over"),
        )
        for item in weights["files"]
    )
    head = ("File", "Arrays", "Values", "Compared with the caffemodel")
    unused = weights["unused_layers"]
    read = (
        f"{plural(weights['blobs'], 'blob')} with {plural(weights['values'], 'value')} were read from the caffemodel. "
    )
    merged = "The scale factor of a BatchNorm is merged into its mean and variance and is no array of its own."
    none = tag("p", "The files written were not compared with it.")
    return join(
        (
            tag("p", read, merged if _with_factors(report) else None),
            table("Weights in the files written", head, rows, (1, 2)) if weights["files"] else none,
            tag("p", "Layers of the caffemodel that the network does not run; their weights are unused:")
            if unused
            else None,
            listing([code(name) for name in unused], "All others", LABELS) if unused else None,
        )
    )


def _sources(report: Report) -> Html:
    rows = (_source(source) for source in report["sources"])
    files = table("Files that were read", ("Role", "File", "Size", "Digest"), rows, (2,))
    return join((files, tag("p", _release(report["release"]))))


def _source(source: Mapping[str, Any]) -> Html:
    digests = {kind: digest for kind, digest in source.items() if kind not in ("role", "name", "bytes")}
    size = f"{source['bytes']:,} bytes"
    listed = (tag("div", f"{kind}: ", code(digest)) for kind, digest in digests.items())
    return row(source["role"], td(code(source["name"]), "name"), td(size, "n"), td(join(listed), "digest"))


def _release(release: Mapping[str, Any] | None) -> str:
    if release is None:
        return "None of them is one of the released SE networks, going by size and digest."
    return (
        f"Going by size and digest, this is the released {release['name']}. Its published errors on the ILSVRC2012 "
        f"validation set, single 224×224 crop: top-1 {release['published_top1_error']:.2f} %, top-5 "
        f"{release['published_top5_error']:.2f} %."
    )


def _network(report: Report) -> Html:
    network, release = report["network"], report["release"] or {}
    gflops, learned = network["gflops_2xmac_per_image"], network["learnable_parameters"]
    published = release.get("published_learnable_parameters"), release.get("published_gflops_2xmac")
    pairs = (
        ("Architecture", network["architecture"]),
        ("Family", network["family"] or "none; the generic network is used"),
        ("Layers", f"{network['layers']:,}"),
        ("Learnable parameters", f"{learned:,}{_compared(published[0], learned)}"),
        ("BatchNorm statistics", f"{network['batchnorm_statistics']:,}"),
        ("Multiply-accumulates per image", f"{network['macs_per_image']:,}"),
        ("GFLOPs per image (2 × MACs)", f"{gflops:,}{_compared(published[1], gflops)}"),
        ("ONNX", f"opset {report['onnx']['opset']}, IR version {report['onnx']['ir_version']}"),
    )
    return join((facts(pairs), _values(report)))


def _compared(published: float | None, own: float) -> str:
    if published is None:
        return ""
    return f" (published: {published:,}{', the same' if published == own else ''})"


def _values(report: Report) -> Html:
    """Inputs and outputs, with their shapes in Caffe and in ONNX."""
    network, rows = report["network"], []
    for way in ("inputs", "outputs"):
        for value in report["onnx"][way]:
            declared = network[way].get(value["name"])
            shapes = ("–" if declared is None else shape(declared), shape(value["shape"]))
            cells = (td(code(value["name"]), "name"), *(td(code(text)) for text in shapes))
            rows.append(row(way.removesuffix("s"), *cells))
    made = table("Inputs and outputs of the ONNX model", ("", "Blob", "Shape in Caffe", "Shape in ONNX"), rows)
    return made if len(rows) <= VALUES else folding(f"The {len(rows)} inputs and outputs", made)


def _remarks(report: Report) -> Html:
    """What was left out, and what is to be known about it."""
    dropped, warnings = report["dropped"], report["warnings"]
    rows = (row(names, td(kind), td(reason)) for names, kind, reason in grouped(dropped, ALIKE))
    left = table("Left out of the network", ("Layer or input", "Type", "Reason"), rows) if dropped else None
    return join(
        (
            left or tag("p", "No layer and no input was left out."),
            tag("h3", "Warnings") if warnings else tag("p", "There are no warnings."),
            listing(warnings, "All other warnings", WARNINGS) if warnings else None,
        )
    )


def _preprocess(report: Report) -> Html | None:
    found = report["preprocess"]
    if found is None:
        return None
    size = "{}×{} (height × width)".format(*found["size"])
    colour = COLOURS[found.get("color", "bgr")]
    resize = found["resize"]
    sides = "to the size of the input, whatever the aspect" if resize is None else f"shorter side to {resize} pixels"
    mean = ", ".join(f"{value:g}" for value in found["mean"])
    return facts(
        (
            ("Channels", colour if found["channels"] == 3 else "grey"),
            ("Resize", f"{sides}, {RESAMPLES[found.get('resample', 'opencv')]}"),
            ("Crop", None if resize is None else f"{size}, from the centre"),
            ("Size of the input", size if resize is None else None),
            ("Mean, subtracted first", f"{mean} (of 255)" if mean else "none is stated"),
            ("Scale, multiplied afterwards", f"{found['scale']:g}"),
            ("Done by model.onnx itself", _inside(found)),
            *_origins(report["preprocess_origins"]),
        )
    )


def _origins(origins: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    """Where the values come from: first what is known, then what is assumed, and what is offered in its place."""
    if not origins:
        return
    for known, title in ((True, "Known"), (False, "Assumed")):
        values = [f"{one['value']}: {one['source']}" for one in origins["values"] if one["known"] is known]
        if values:
            yield title, "; ".join(values)
    if origins["offers"]:
        yield "Offered in its place", "; ".join(origins["offers"])


def _inside(preprocess: Mapping[str, Any]) -> str | None:
    if preprocess.get("any_size"):
        return "all of it: it takes pictures of any size, one at a time"
    return "order of the channels, mean and scale" if preprocess.get("input") == "image" else None


def _classes(report: Report) -> Html:
    classes, check = report["classes"], report["check"]
    labels: Sequence[str] = classes["labels"]
    listed = tag("ol", *(tag("li", label) for label in labels), start=0, class_="labels") if labels else None
    if listed and len(labels) > LABELS:
        listed = folding(f"The {len(labels)} labels, counted from 0", listed)
    top5 = (_top5(name, inputs, labels) for name, inputs in check["top5"].items()) if check else ()
    return join((tag("p", f"Order of the classes: {classes['order']}."), listed, *top5))


def _top5(name: str, inputs: Sequence[Sequence[int]], labels: Sequence[str]) -> Html:
    """The best classes of the check's inputs, in exact arithmetic."""
    rows = (
        row(str(number), *(td(str(k) + (f" {labels[k]}" if k < len(labels) else "")) for k in best))
        for number, best in enumerate(inputs, 1)
    )
    most = max(map(len, inputs), default=0)
    head = ("Input", *(f"{place}." for place in range(1, most + 1)))
    made = table(f"Best classes at output {name}, for the inputs of the check in float64", head, rows)
    return made if len(inputs) <= INPUTS else folding(f"Best classes of {len(inputs)} inputs at {name}", made)


def _layers(report: Report) -> Html:
    check = report["check"]
    note = "The bar below an error is the share of the budget that it uses. " if check else ""
    rest = "Where a later layer overwrites a blob in place, the errors stand with the last one that writes it. "
    counts = "Multiply-accumulates are those of the declared batch size."
    made = layer_table.draw(report["layers"], report["network"], check["engines"] if check else ())
    paper = "The table of all layers stands in the file report.html itself, and in report.json."
    return join((tag("p", note, rest if check else None, counts), tag("p", paper, class_="printed"), made))


def _environment(report: Report) -> Html:
    return facts(report["environment"].items())


SECTIONS: tuple[tuple[str, str, Callable[[Report], Html | None]], ...] = (
    ("record", "For the record", record),
    ("method", "What was checked", _method),
    ("errors", "Errors", _errors),
    ("weights", "Weights", _weights),
    ("sources", "Sources", _sources),
    ("network", "Network", _network),
    ("remarks", "Left out, and warnings", _remarks),
    ("preprocessing", "Preprocessing", _preprocess),
    ("classes", "Classes", _classes),
    ("environment", "Environment", _environment),
    ("layers", "Layers", _layers),
)
