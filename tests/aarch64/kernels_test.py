#!/usr/bin/env python3
"""The kernels of aarch64: built by Debian's cross compiler, run by qemu's emulation of processors
with all that the sets use and with less."""
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


def kernels_test(processor, *arguments):
    return run(EMULATOR, "-cpu", processor, "-L", "/usr/aarch64-linux-gnu", BUILD / "kernels_test",
               *arguments)


class Kernels(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        run("cmake", "-S", ROOT / "tests/aarch64", "-B", BUILD, "-G", "Ninja",
            "-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64",
            f"-DCMAKE_CXX_COMPILER={COMPILER}")
        run("ninja", "-C", BUILD, "kernels_test")

    def test_every_set_passes_the_property_tests(self):
        output = kernels_test("max")
        self.assertIn("[  PASSED  ]", output)
        self.assertNotIn("SKIPPED", output)

    def test_processors_that_lack_instructions_are_not_asked_for_them(self):
        for processor, missing in [("cortex-a72", "neon_dot neon_i8mm"),
                                   ("neoverse-n1", "neon_i8mm")]:
            output = kernels_test(processor, "--gtest_filter=KernelSets.*:*MatMul*q4_*")
            self.assertIn("[  PASSED  ]", output)
            self.assertIn(f"this machine lacks {missing}\n", output)

    def test_sets_define_no_weak_symbols(self):
        # The linker could choose them for the whole program, whatever the processor.
        objects = [path for path in BUILD.rglob("*.o") if path.parent.name.startswith("neon")]
        self.assertEqual({path.parent.name for path in objects}, {"neon", "neon_dot", "neon_i8mm"})
        symbols = run(COMPILER.replace("g++", "nm"), "-A", "--defined-only", *objects)
        self.assertEqual([line for line in symbols.splitlines()
                          if line.rsplit(maxsplit=2)[1] in "VWu"], [])


if __name__ == "__main__":
    unittest.main()
