"""A real memory limit for a process of its own."""
import itertools
import os
import pathlib
import subprocess

from python_support import MOXIE


class Group:
    """A control group below this process's own, with a limit; v1 or v2. Counts what one run costs."""

    numbers = itertools.count()

    def __init__(self, limit):
        lines = [line.split(":", 2) for line in
                 pathlib.Path("/proc/self/cgroup").read_text().splitlines()]
        v1 = [path for _, names, path in lines if "memory" in names.split(",")]
        v2 = [path for number, _, path in lines if number == "0"]
        root, own = (("/sys/fs/cgroup/memory", v1[0]) if v1 else ("/sys/fs/cgroup", v2[0]))
        self.limit_name, self.peak_name = (("memory.limit_in_bytes", "memory.max_usage_in_bytes")
                                           if v1 else ("memory.max", "memory.peak"))
        self.path = pathlib.Path(root + own) / f"moxie-test-{os.getpid()}-{next(self.numbers)}"
        self.path.mkdir()
        try:
            (self.path / self.limit_name).write_text(str(limit))
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
        return int((self.path / self.peak_name).read_text())

    def remove(self):
        self.path.rmdir()
