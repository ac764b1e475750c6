"""Pages made from one real report and changed ones, and a strict parser that turns them into a tree."""

from __future__ import annotations

import copy
import tempfile
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from senet_convert import bundle, demo
from senet_convert.converter import convert

VOID = {"meta", "br", "wbr", "img", "link", "input", "hr"}
HOSTILE = "</code><script>alert('x')</script>&amp;\"><img src=x onerror=y> größe 层 $title"
Report = dict[str, Any]


class Element:
    """One element of a parsed page."""

    def __init__(self, name: str, attributes: dict[str, str], parent: Element | None) -> None:
        self.name, self.attributes, self.parent = name, attributes, parent
        self.children: list[Element | str] = []

    @property
    def classes(self) -> list[str]:
        return self.attributes.get("class", "").split()

    @property
    def text(self) -> str:
        return "".join(child if isinstance(child, str) else child.text for child in self.children)

    def all(self, name: str = "", kind: str = "") -> list[Element]:
        """The elements below, of a name and a class, in the order of the page."""
        found = []
        for child in (child for child in self.children if isinstance(child, Element)):
            if name in ("", child.name) and (not kind or kind in child.classes):
                found.append(child)
            found += child.all(name, kind)
        return found

    def one(self, name: str = "", kind: str = "") -> Element:
        (found,) = self.all(name, kind)
        return found


class Parser(HTMLParser):
    """Builds the tree, and fails where a tag is not closed in its turn."""

    def __init__(self) -> None:
        super().__init__()
        self.root = self.at = Element("", {}, None)

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        assert len({key for key, _ in attributes}) == len(attributes), f"<{name}> has an attribute twice"
        element = Element(name, {key: value or "" for key, value in attributes}, self.at)
        self.at.children.append(element)
        if name not in VOID:
            self.at = element

    def handle_endtag(self, name: str) -> None:
        assert self.at.name == name, f"</{name}> closes <{self.at.name}>"
        assert self.at.parent is not None
        self.at = self.at.parent

    def handle_data(self, data: str) -> None:
        self.at.children.append(data)


def parse(text: str) -> Element:
    parser = Parser()
    parser.feed(text)
    parser.close()
    assert parser.at is parser.root, f"<{parser.at.name}> stays open"
    return parser.root


def report() -> Report:
    """The report of the demo's network, to be changed at will."""
    return copy.deepcopy(_converted())


@cache
def _converted() -> Report:
    with tempfile.TemporaryDirectory() as place, demo.files() as digits:
        folder = Path(place) / "digits"
        wishes = convert.Wishes(labels=digits / "classes.txt", resize=demo.RESIZE)
        caffemodel, prototxt = digits / f"{demo.NAME}.caffemodel", digits / "deploy.prototxt"
        convert.convert(caffemodel, prototxt, folder, wishes, lambda _: None)
        assert (folder / bundle.PAGE).read_text(encoding="utf-8").startswith("<!doctype html>")
        return bundle.read_report(folder)


def entries(report: Report) -> list[dict[str, Any]]:
    return [errors for layer in report["layers"] for errors in layer.get("errors", ())]


def failed(report: Report) -> Report:
    """onnxruntime leaves the budget on the third blob, and is not finite on the last."""
    third, last = entries(report)[2], entries(report)[-1]
    third["engines"]["onnxruntime"], last["engines"]["onnxruntime"] = 0.5, None
    third["over_budget"] = last["over_budget"] = ["onnxruntime"]
    report["check"]["worst"]["onnxruntime"] = {"blob": last["blob"], "error": None, "budget": 2e-6, "of_budget": None}
    report["check"]["first_divergence"] = f"layer 'x', blob '{third['blob']}' (onnxruntime)"
    return report | {"verdict": "failed", "faults": ["first fault", "second fault"]}


def unchecked(report: Report) -> Report:
    for layer in report["layers"]:
        del layer["errors"]
    return report | {"verdict": "unchecked", "check": None, "weights": report["weights"] | {"files": []}}


def hostile(report: Report) -> Report:
    """Every name and text that comes from a file is an attack."""
    for layer in report["layers"]:
        layer["name"] = layer["type"] = HOSTILE
        for errors in layer["errors"]:
            errors["blob"] = HOSTILE
    for worst in report["check"]["worst"].values():
        worst["blob"] = HOSTILE
    report["network"] |= {"name": HOSTILE, "architecture": HOSTILE, "family": HOSTILE}
    report["sources"][0]["name"] = report["onnx"]["inputs"][0]["name"] = HOSTILE
    report["check"] |= {"inputs": HOSTILE, "first_divergence": HOSTILE, "top5": {HOSTILE: [[0, 1, 2]]}}
    report["classes"] = {"order": HOSTILE, "labels": [HOSTILE] * 30}
    report["weights"]["unused_layers"] = [HOSTILE]
    report["dropped"] = [{"name": HOSTILE, "type": HOSTILE, "reason": HOSTILE}]
    report["environment"]["platform"] = HOSTILE
    return report | {"verdict": "failed", "faults": [HOSTILE] * 40, "warnings": [HOSTILE]}


def recognised(report: Report) -> Report:
    return report | {
        "release": {
            "name": "SE-ResNet-50",
            "published_top1_error": 22.37,
            "published_top5_error": 6.3,
            "published_gflops_2xmac": None,
            "published_learnable_parameters": report["network"]["learnable_parameters"],
        }
    }


def with_reference(report: Report) -> Report:
    report["check"]["engines"].append("reference")
    report["check"]["worst"]["reference"] = {"blob": "prob", "error": 3e-5, "budget": 5e-5, "of_budget": 0.6}
    entries(report)[-1]["engines"]["reference"] = 3e-5
    entries(report)[-1]["reference_budget"] = 5e-5
    return report


def large(report: Report) -> Report:
    report["layers"] = report["layers"] * 14
    return report


def bare(report: Report) -> Report:
    """A network of no known family, without names, pictures and labels, with a scalar output and all blobs given."""
    report["network"] |= {"name": "", "family": None}
    report["onnx"]["outputs"] = [{"name": f"blob{i}", "shape": [] if i else [None, 3]} for i in range(50)]
    report["classes"]["labels"] = []
    report["check"]["worst"]["onnxruntime"] = None
    return report | {"preprocess": None}
