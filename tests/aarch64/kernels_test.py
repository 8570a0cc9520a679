#!/usr/bin/env python3
"""The kernels of aarch64: built by Debian's cross compiler, run by qemu's emulation of a processor
with all that the sets use."""
import os
import pathlib
import shutil
import subprocess
import unittest

from python_support import ROOT, skip

COMPILER = shutil.which("aarch64-linux-gnu-g++")
EMULATOR = shutil.which("qemu-aarch64")
BUILD = pathlib.Path(os.environ.get("MOXIE_BUILD", ROOT / "build")) / "aarch64"

if not (COMPILER and EMULATOR and pathlib.Path("/usr/src/googletest").is_dir()):
    skip("needs g++-aarch64-linux-gnu, qemu-user and googletest (./dev test installs them)")


def run(*command):
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if result.returncode != 0:
        raise AssertionError(f"{command[0]}: {result.stdout[-4000:]}{result.stderr[-2000:]}")
    return result.stdout


class Kernels(unittest.TestCase):
    def test_every_set_passes_the_property_tests(self):
        run("cmake", "-S", ROOT / "tests/aarch64", "-B", BUILD, "-G", "Ninja",
            "-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64",
            f"-DCMAKE_CXX_COMPILER={COMPILER}")
        run("ninja", "-C", BUILD, "kernels_test")
        output = run(EMULATOR, "-cpu", "max", "-L", "/usr/aarch64-linux-gnu",
                     BUILD / "kernels_test")
        self.assertIn("[  PASSED  ]", output)
        self.assertNotIn("SKIPPED", output)


if __name__ == "__main__":
    unittest.main()
