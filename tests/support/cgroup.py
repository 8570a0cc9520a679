"""A real memory limit for a process of its own."""
import itertools
import os
import pathlib
import subprocess

from python_support import MOXIE

ROOT = pathlib.Path("/sys/fs/cgroup")


def parents_of_groups(lines, root):
    """Folders in which a group with a memory limit may be made, best first, as the lines of
    /proc/self/cgroup (number:controllers:path) have them; version 1 where it has the memory."""
    lines = [line.split(":", 2) for line in lines]
    v1 = [path for _, names, path in lines if "memory" in names.split(",")]
    if v1:
        return [root / "memory" / v1[0].strip("/"), root / "memory"]  # A container's own is the root.
    own = root / next(path for number, _, path in lines if number == "0").strip("/")
    # A group of version 2 whose children have limits holds no process itself, so one further out
    # is more likely to have them.
    return [folder for folder in (own, *own.parents) if folder.is_relative_to(root)]


def limits_children(parent):
    """Whether groups made in there have memory limits."""
    switches = parent / "cgroup.subtree_control"  # Of version 2.
    return "memory" in switches.read_text().split() if switches.exists() else parent.is_dir()


def parent_of_groups(lines, root):
    """The folder to make groups in, or OSError."""
    parents = parents_of_groups(lines, root)
    for parent in parents:
        if limits_children(parent):
            return parent
    (parents[0] / "cgroup.subtree_control").write_text("+memory")  # Refused where processes are.
    return parents[0]


class Group:
    """A control group with a limit, in version 1 or 2. Counts what one run costs."""

    numbers = itertools.count()

    def __init__(self, limit):
        parent = parent_of_groups(pathlib.Path("/proc/self/cgroup").read_text().splitlines(), ROOT)
        v2 = (parent / "cgroup.subtree_control").exists()
        self.path = parent / f"moxie-test-{os.getpid()}-{next(self.numbers)}"
        self.peak_file = self.path / ("memory.peak" if v2 else "memory.max_usage_in_bytes")
        self.events_file = self.path / ("memory.events" if v2 else "memory.failcnt")
        self.path.mkdir()
        try:
            (self.path / ("memory.max" if v2 else "memory.limit_in_bytes")).write_text(str(limit))
            self.peak()  # Linux before 5.19 keeps none in version 2.
        except OSError:
            self.path.rmdir()
            raise

    def run(self, *args, **kwargs):
        return subprocess.run([MOXIE, *map(str, args)], capture_output=True, text=True,
                              preexec_fn=self.enter, timeout=300, **kwargs)

    def enter(self):
        """For subprocess's preexec_fn."""
        (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def peak(self):
        return int(self.peak_file.read_text())

    def limit_hits(self):
        """How often the limit was met, and something had to be given back or waited for."""
        words = self.events_file.read_text().split()  # Version 1 has only the number.
        return int(words[words.index("max") + 1] if "max" in words else words[0])

    def remove(self):
        self.path.rmdir()
