#!/usr/bin/env python3
"""Where tests make control groups: in trees as the kernel's documentation describes them, of both
versions, since a machine has one of them."""
import pathlib
import tempfile
import unittest

from cgroup import parent_of_groups


class Parents(unittest.TestCase):
    def parent(self, own, switches):
        """Below a root, of these folders with what their groups below may limit; None: version 1."""
        with tempfile.TemporaryDirectory() as holder:
            root = pathlib.Path(holder)
            for folder, controllers in switches.items():
                (root / folder).mkdir(parents=True, exist_ok=True)
                if controllers is not None:
                    (root / folder / "cgroup.subtree_control").write_text(controllers)
            found = parent_of_groups(own, root)
            switched = found / "cgroup.subtree_control"
            return str(found.relative_to(root)), switched.read_text() if switched.exists() else None

    def test_version_1(self):
        self.assertEqual(self.parent(["4:memory:/a", "0::/x"], {"memory/a": None}), ("memory/a", None))
        self.assertEqual(self.parent(["4:memory:/host/a"], {"memory": None}), ("memory", None))

    def test_version_2_prefers_what_is_near_and_ready(self):
        tree = {".": "cpu memory", "a": "memory pids", "a/b": ""}
        self.assertEqual(self.parent(["0::/a/b"], tree), ("a", "memory pids"))
        self.assertEqual(self.parent(["0::/"], tree), (".", "cpu memory"))
        self.assertEqual(self.parent(["5:cpu:/x", "0::/a"], tree), ("a", "memory pids"))

    def test_version_2_asks_for_it_in_its_own(self):
        self.assertEqual(self.parent(["0::/a"], {".": "cpu", "a": ""}), ("a", "+memory"))

    def test_none(self):
        with self.assertRaises(OSError):
            self.parent(["0::/host/a"], {".": "cpu"})


if __name__ == "__main__":
    unittest.main()
