"""What hostile input costs: the peak resident set of every server process while a block runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from lab.external import External
from lab.fleet import Fleet


@contextlib.contextmanager
def bounded(target: Fleet | External, limit: int, what: str) -> Iterator[None]:
    """Fails when a process of the fleet grew by more than `limit` bytes, or ended, meanwhile."""
    if isinstance(target, External):
        yield
        return
    before = {}
    for process in target.processes.values():
        process.forget_peak()
        before[process.name] = process.resident_peak(), process.pid
    yield
    worst = 0
    for process in target.processes.values():
        resident, pid = before[process.name]
        assert process.is_running() and process.pid == pid, f"{process.name} ended during {what}"
        grown = process.resident_peak() - resident
        worst = max(worst, grown)
        assert grown <= limit, f"{process.name} grew by {grown >> 10} KiB during {what}"
    print(f"\n  {what}: at most {worst >> 10} KiB more resident")
