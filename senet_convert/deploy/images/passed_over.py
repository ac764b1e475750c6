"""What lies among pictures and is not meant: hidden files and folders, and what systems and viewers put beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from .images import pictures_in

_FOLDERS = {"@eadir", "__macosx", "#recycle", "$recycle.bin", "system volume information", "lost+found", "__pycache__"}
_FILES = {"thumbs.db", "ehthumbs.db", "desktop.ini"}


def reason(parts: Sequence[str]) -> str | None:
    """The part of a path, below the folder that was asked for, that says it is not meant; None if it is."""
    for part in parts:
        if part.startswith("._"):
            return "._*"  # one for each file that a Mac copied
        if part.startswith(".") or part.lower() in _FOLDERS:
            return part
    return parts[-1] if parts and parts[-1].lower() in _FILES else None


class PassedOver:
    """Counts what was passed over, to be told once."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def __str__(self) -> str:
        """'passed over: 3 files of .ipynb_checkpoints, 1 of Thumbs.db'; empty where nothing was."""
        told = [f"{count:,} of {name}" for name, count in sorted(self._counts.items())]
        total = sum(self._counts.values())
        return f"passed over: {total:,} hidden or system files: {', '.join(told)}" if told else ""

    def meant(self, parts: Sequence[str]) -> bool:
        """Is the file at this path, from the folder that was asked for, one that is meant? Counted where not."""
        found = reason(parts)
        if found is not None:
            self._counts[found] += 1
        return found is None

    def pictures(self, folder: Path, root: Path | None = None) -> list[Path]:
        """The pictures below `folder`, sorted; what `root`, or `folder`, lies in may be hidden."""
        return pictures_in(self._meant_files(folder.rglob("*"), root or folder))

    def _meant_files(self, paths: Iterable[Path], root: Path) -> Iterable[Path]:
        for path in paths:
            parts = path.relative_to(root).parts
            if reason(parts) is None:
                yield path
            elif not path.is_dir():
                self.meant(parts)
