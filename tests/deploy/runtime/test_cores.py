from __future__ import annotations

import os
from pathlib import Path

import pytest

from senet_convert.deploy.runtime.cores import usable_cores

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system has no CPU affinity")


@pytest.fixture(autouse=True)
def eight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))


def system(root: Path, cgroup: str, files: dict[str, str]) -> Path:
    for name, text in {"proc/self/cgroup": cgroup, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_without_cgroups_the_affinity_counts(tmp_path: Path) -> None:
    assert usable_cores(tmp_path) == 8


@pytest.mark.parametrize(
    ("quota", "cores"), [("200000 100000", 2), ("250000 100000", 2), ("50000 100000", 1), ("max 100000", 8)]
)
def test_v2(quota: str, cores: int, tmp_path: Path) -> None:
    files = {"sys/fs/cgroup/app/cpu.max": quota}
    assert usable_cores(system(tmp_path, "0::/app\n", files)) == cores


def test_the_groups_around_count_too(tmp_path: Path) -> None:
    files = {"sys/fs/cgroup/pod/app/cpu.max": "max 100000", "sys/fs/cgroup/pod/cpu.max": "300000 100000"}
    assert usable_cores(system(tmp_path, "0::/pod/app\n", files)) == 3


def test_inside_a_container_the_path_is_that_of_the_host(tmp_path: Path) -> None:
    files = {"sys/fs/cgroup/cpu.max": "400000 100000"}
    assert usable_cores(system(tmp_path, "0::/kubepods/with space/x\n", files)) == 4


@pytest.mark.parametrize("mount", ["cpu,cpuacct", "cpu"])
def test_v1(mount: str, tmp_path: Path) -> None:
    base = f"sys/fs/cgroup/{mount}/docker/abc"
    files = {f"{base}/cpu.cfs_quota_us": "150000", f"{base}/cpu.cfs_period_us": "50000"}
    assert usable_cores(system(tmp_path, "3:cpu,cpuacct:/docker/abc\n2:memory:/\n", files)) == 3


def test_v1_without_a_limit(tmp_path: Path) -> None:
    files = {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}
    assert usable_cores(system(tmp_path, "1:cpu:/\n0::/\n", files)) == 8


def test_hybrid_layout(tmp_path: Path) -> None:
    files = {"sys/fs/cgroup/unified/app/cpu.max": "100000 100000"}
    assert usable_cores(system(tmp_path, "1:cpu:/\n0::/app\n", files)) == 1
