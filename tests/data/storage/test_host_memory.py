"""The memory that is left, from files of the system as Linux writes them."""

import math

import pytest

from vaex.data.storage import host_memory

GB = 10**9
UNLIMITED_1 = 9223372036854771712  # what version 1 says where there is no limit


def files(root, contents):
    for name, content in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def meminfo(free):
    return {"proc/meminfo": f"MemTotal:       64000000 kB\nMemAvailable:   {free // 1024} kB\nSwapFree: 0 kB\n"}


def version_2(path, limit, used, cached=0, group=None):
    folder = "sys/fs/cgroup" + path
    return {
        "proc/self/cgroup": f"0::{group or path or '/'}\n",
        f"{folder}/memory.max": f"{limit}\n",
        f"{folder}/memory.current": f"{used}\n",
        f"{folder}/memory.stat": f"anon {used - cached}\nactive_file {cached // 2}\ninactive_file {cached - cached // 2}\nfile 7\n",
    }


def version_1(path, limit, used, cached=0, group=None):
    folder = "sys/fs/cgroup/memory" + path
    return {
        "proc/self/cgroup": f"9:name=systemd:/other\n5:cpuacct,cpu:/\n4:memory:{group or path or '/'}\n0::/\n",
        f"{folder}/memory.limit_in_bytes": f"{limit}\n",
        f"{folder}/memory.usage_in_bytes": f"{used}\n",
        f"{folder}/memory.stat": f"active_file 9\ntotal_active_file {cached // 2}\ntotal_inactive_file {cached - cached // 2}\n",
    }


VERSIONS = {"version 2": version_2, "version 1": version_1}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("limit", "used", "cached", "left"),
    [
        (8 * GB, 3 * GB, 0, 5 * GB),  # less than the machine has
        (8 * GB, 7 * GB, 6 * GB, 7 * GB),  # what caches files can be dropped
        (90 * GB, 3 * GB, 0, 20 * GB),  # more than the machine has
        (8 * GB, 9 * GB, 0, 0),  # over the limit for a moment
        ("max", 3 * GB, 0, 20 * GB),
        (UNLIMITED_1, 3 * GB, 0, 20 * GB),
    ],
)
@pytest.mark.parametrize(  # in a container, its group is mounted at the top
    ("path", "group"), [("", None), ("/jobs/one", None), ("", "/as/the/host/sees/it")]
)
def test_the_limit_of_a_group_counts(tmp_path, version, limit, used, cached, left, path, group):
    contents = meminfo(20 * GB // 1024 * 1024) | VERSIONS[version](path, limit, used, cached, group)
    assert host_memory.free_memory(files(tmp_path, contents)) == pytest.approx(left, abs=1024)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_limit_of_a_group_around_counts_too(tmp_path, version):
    outer, inner = VERSIONS[version]("/jobs", 8 * GB, 6 * GB), VERSIONS[version]("/jobs/one", 5 * GB, GB)
    assert host_memory.free_memory(files(tmp_path, meminfo(20 * GB) | outer | inner)) == 2 * GB


def test_without_limits_or_files(tmp_path):
    assert host_memory.free_memory(tmp_path / "nothing") == math.inf
    assert host_memory.free_memory(files(tmp_path / "a", version_2("", 8 * GB, GB))) == 7 * GB  # no meminfo
    odd = meminfo(2048) | {"proc/self/cgroup": "odd\n0::\n\n4:memory\n", "sys/fs/cgroup/memory.max": "none\n"}
    assert host_memory.free_memory(files(tmp_path / "b", odd)) == 2048
    (tmp_path / "b/sys/fs/cgroup/memory.max").write_bytes(b"\xff\xfe")
    (tmp_path / "b/proc/meminfo").write_text("MemAvailable:\n")
    assert host_memory.free_memory(tmp_path / "b") == math.inf
