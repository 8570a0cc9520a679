"""What the Python tests share: the program, the data beside the checkout, and skipping."""
import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
MOXIE = os.environ.get("MOXIE", str(ROOT / "build/moxie"))
PATIENCE_S = 240  # Longer than anything takes on a slow and busy machine: what takes so long is stuck.


def wait_for(condition, poll_s=0.005):
    """What the condition gives, once that is true; fails where it never is."""
    until = time.monotonic() + PATIENCE_S
    while not (value := condition()):
        if time.monotonic() > until:
            raise AssertionError(f"not within {PATIENCE_S} s")
        time.sleep(poll_s)
    return value


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(77)


def shared():
    """The folder of reference data beside the checkout, or a skip."""
    folder = pathlib.Path(os.environ.get("MOXIE_SHARED", ROOT.parent / "shared"))
    if not (folder / "golden").is_dir():
        skip(f"no reference data at {folder}")
    return folder


def smollm2():
    """The demo's dense model, or a skip."""
    path = pathlib.Path(os.environ.get("MOXIE_SMOLLM2",
                                       ROOT / ".cache/models/SmolLM2-135M-Instruct.Q4_1.gguf"))
    if not path.exists():
        skip(f"no SmolLM2 at {path} (./dev demo fetches it)")
    return path


def enter_venv(name, *packages):
    """Goes on in a Python of its own, .cache/NAME, that has these packages; a skip where they
    cannot be installed."""
    venv = ROOT / ".cache" / name
    python = venv / "bin/python"
    if pathlib.Path(sys.prefix) == venv:
        return
    wanted, stamp = "\n".join(packages) + "\n", venv / ".installed"
    if not stamp.exists() or stamp.read_text() != wanted:
        venv.parent.mkdir(exist_ok=True)
        # Compiling all that is never imported takes longer than the rest.
        pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-compile", *packages]
        try:
            subprocess.run([sys.executable, "-m", "venv", venv], check=True, timeout=600)
            subprocess.run(pip, check=True, timeout=600)
        except (subprocess.SubprocessError, OSError) as problem:
            skip(f"{', '.join(packages)} cannot be installed: {problem}")
        stamp.write_text(wanted)
    os.execv(python, [str(python), *sys.argv])


def moxie(*args, status=0, **kwargs):
    """Runs the program and returns its standard output; fails where its exit status differs."""
    run = subprocess.run([MOXIE, *map(str, args)], capture_output=True, text=True, **kwargs)
    if run.returncode != status:
        raise AssertionError(f"moxie {' '.join(map(str, args))}: exit status {run.returncode}, "
                             f"expected {status}\n{run.stderr[-2000:]}")
    return run.stdout
