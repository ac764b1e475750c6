"""How many cores this process really has: what the scheduler allows, and what a container's quota grants."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

_UNLIMITED_V1 = "-1"


def usable_cores(root: Path = Path("/")) -> int:
    """The cores of the process's affinity (cpuset), or fewer where a cgroup (v1 or v2) grants less time; at least 1.

    A quota of 2.5 cores counts as 2: a third thread would be stopped for half of each period. `root` is where /proc and
    /sys are looked for.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([cores, *_quotas(root)])))


def _quotas(root: Path) -> Iterator[float]:
    """Cores granted by each cgroup that this process is in, and by the groups around it."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):  # not Linux, or nothing mounted
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        names = controllers.split(",")
        base = root / "sys/fs/cgroup"
        if controllers == "":  # v2, beside v1 in the hybrid layout
            yield from _walk(_first_folder([base / "unified", base]), group, _v2)
        elif "cpu" in names:
            yield from _walk(_first_folder([base / controllers, base / "cpu", base / "cpu,cpuacct"]), group, _v1)


def _first_folder(places: list[Path]) -> Path:
    return next((place for place in places if place.is_dir()), places[-1])


def _walk(mount: Path, group: str, read: Callable[[Path], float | None]) -> Iterator[float]:
    """The quotas from a group up to its mount. Inside a container the group's own path may not exist under it."""
    place = mount / group.lstrip("/")
    for folder in (place, *place.parents):
        found = read(folder)
        if found is not None:
            yield found
        if folder == mount:
            break


def _v2(folder: Path) -> float | None:
    words = _words(folder / "cpu.max")
    return int(words[0]) / int(words[1]) if len(words) == 2 and words[0] != "max" else None


def _v1(folder: Path) -> float | None:
    quota, period = _words(folder / "cpu.cfs_quota_us"), _words(folder / "cpu.cfs_period_us")
    return int(quota[0]) / int(period[0]) if quota and period and quota[0] != _UNLIMITED_V1 else None


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").split()
    except OSError:
        return []
