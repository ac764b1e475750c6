"""Dockerfiles as the tests read them: stages of instructions, and a build stage done without Docker."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.paths import ROOT


@dataclass(frozen=True)
class Stage:
    """What stands from one FROM to the next: (instruction, arguments), in order."""

    base: str
    name: str
    steps: tuple[tuple[str, str], ...]

    def all(self, instruction: str) -> list[str]:
        return [rest for word, rest in self.steps if word == instruction]

    def words(self, instruction: str) -> list[str]:
        """The words of the last such instruction, which must be in JSON form."""
        found: list[str] = json.loads(self.all(instruction)[-1])
        return found

    @property
    def health(self) -> list[str]:
        """The words of the health check."""
        found: list[str] = json.loads(self.all("HEALTHCHECK")[-1].partition(" CMD ")[2])
        return found


def stages(path: Path) -> list[Stage]:
    """The stages of a Dockerfile whose instructions are a line each."""
    found: list[Stage] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        word, _, rest = line.partition(" ")
        if not line or word in ("#", "ARG"):
            continue
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            found.append(Stage(base, name, ()))
        else:
            last = found[-1]
            found[-1] = Stage(last.base, last.name, (*last.steps, (word, rest)))
    return found


def build(stage: Stage, folder: Path, python: str = sys.executable) -> None:
    """Do the COPY and RUN steps of a stage below `folder`, which takes the place of /, with this `python`."""
    for word, rest in stage.steps:
        if word == "COPY":
            *sources, target = rest.split()
            for source in sources:
                _copy(ROOT / source, folder / target.lstrip("/"), target.endswith("/"))
        elif word == "RUN":
            words = [_placed(one, folder) for one in shlex.split(rest)]
            if words[0] in ("python", "python3"):
                words[0] = python
            subprocess.run(words, check=True)


def _placed(word: str, folder: Path) -> str:
    return f"{folder}{word}" if word.startswith(("/opt/", "/source")) else word


def _copy(source: Path, target: Path, into: bool) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
        return
    place = target / source.name if into else target
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, place)
