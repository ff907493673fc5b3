"""Freed memory stays with the process, unless the user has set the C library otherwise."""

import subprocess
import sys

import pytest

from trainables import malloc

# Faults of a process that allocates, fills and frees 64 MB over and over: each new page is one.
FAULTS = """
import resource
{first}
import torch
torch.zeros(16 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.zeros(16 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(first: str) -> int:
    # Small pages, of which there are the same number everywhere.
    environment = {"THP_MEM_ALLOC_ENABLE": "0"}
    command = [sys.executable, "-c", FAULTS.format(first=first)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(not malloc.keep_freed({}), reason="this C library is not glibc")
def test_memory_that_is_asked_for_again_is_not_fetched_again() -> None:
    assert faults("import trainables") * 2 < faults("")


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "MALLOC_ARENA_MAX", "GLIBC_TUNABLES"])
def test_settings_of_the_users_own_stand(name: str) -> None:
    assert not malloc.keep_freed({"PATH": "/bin", name: "1"})
