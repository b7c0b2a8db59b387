"""Builds `.venv` from nothing but python3 and pip; every target of the Makefile calls it first.

    python3 tools/setup_env.py core|dev|bench [--this-python]

Installs with uv, which it installs into the environment, and with pip where uv fails. uv does not
read pip's configuration, so what pip is told (a folder of wheels, an index, a certificate) is
handed over. Costs nothing when the environment is already right; one that was left half-made is
built anew. Runs on any python3, to be able to say that it is too old.
"""

from __future__ import annotations

import ast
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import unquote, urlparse

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
READY = VENV / ".ready"  # written last: what is installed, and from which files
MAKING = VENV / ".making"  # written first: an environment with this and no .ready is ours to drop
CONSTRAINTS = ROOT / "constraints.txt"
OLDEST = (3, 11)
NAMES = ["python3", "python3.14", "python3.13", "python3.12", "python3.11", "python"]


class SetupError(Exception):
    """The set-up cannot go on; the message says what to do."""


def main(arguments: list[str]) -> int:
    wanted = {word for word in arguments if word in ("dev", "bench")}
    with open(ROOT / "pyproject.toml", "rb") as lock:  # two makes at once take turns
        fcntl.flock(lock, fcntl.LOCK_EX)
        ready = read_ready()
        installed = set(ready.get("extras", []))
        if ready.get("fingerprint") == fingerprint() and wanted <= installed:
            return 0
        try:
            build(sorted(wanted | installed), "--this-python" in arguments)
        except SetupError as error:
            print(f"set-up: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("set-up: stopped; the next make builds it anew", file=sys.stderr)
            return 130
    return 0


def build(extras: list[str], only_this: bool) -> None:
    """Create or update the environment so that it holds the core and `extras`."""
    started = time.monotonic()
    python, settings = choose_python(only_this)
    environment = environment_for(settings)
    if not read_ready():
        make_room()
        create_venv(python, environment)
    if READY.exists():
        READY.unlink()
    install(extras, environment)
    ready = {"fingerprint": fingerprint(), "extras": extras, "place": str(VENV)}
    READY.write_text(json.dumps(ready) + "\n")
    say(f"ready in {time.monotonic() - started:.0f} s")


def say(text: str) -> None:
    print(f"set-up: {text}", flush=True)


def fingerprint() -> str:
    """Changes with the wanted packages and with this script."""
    digest = hashlib.sha256()
    for path in (ROOT / "pyproject.toml", CONSTRAINTS, Path(__file__)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def read_ready() -> dict:
    """What the environment holds; nothing if it is missing, half-made, moved or broken."""
    try:
        ready = json.loads(READY.read_text())
    except (OSError, ValueError):
        return {}
    return ready if PYTHON.exists() and ready["place"] == str(VENV) else {}


def make_room() -> None:
    """Drop our own half-made environment; move one that somebody else made out of the way."""
    if VENV.is_symlink() or (VENV.exists() and not MAKING.exists()):
        aside = VENV.with_name(f".venv.old-{int(time.time())}")
        say(f"keeping the .venv that was not made here as {aside.name}")
        VENV.rename(aside)
    shutil.rmtree(VENV, ignore_errors=True)
    VENV.mkdir()
    MAKING.touch()


# --- python ----------------------------------------------------------------------------------


def choose_python(only_this: bool) -> tuple[str, dict[str, list[str]]]:
    """The Python to build on and pip's settings as it sees them.

    `python3` first, then the newest; but one for which a configured folder holds a torch wheel
    comes before all others, as any other would fetch gigabytes.
    """
    paths = [sys.executable] + ([] if only_this else [shutil.which(name) for name in NAMES])
    found: dict[str, tuple[int, ...]] = {}
    for path in paths:
        version = version_of(path) if path else None
        if path and version and version not in found.values():
            found[path] = version
    fit = [path for path, version in found.items() if version >= OLDEST]
    if not fit:
        seen = ", ".join(f"{p} is {'.'.join(map(str, v))}" for p, v in found.items())
        raise SetupError(
            f"Python {OLDEST[0]}.{OLDEST[1]} or newer is needed ({seen}). Install one, or name it: "
            "make PYTHON=/path/to/python3.12 …"
        )
    settings = {path: pip_settings(path) for path in fit}
    for path in fit:
        if has_torch_wheel(found[path], settings[path]):
            return path, settings[path]
    return fit[0], settings[fit[0]]


def version_of(path: str) -> tuple[int, ...] | None:
    """(major, minor) of an interpreter, or None if it does not run (a shim for nothing)."""
    code = "import sys; print(sys.version_info[0], sys.version_info[1])"
    try:
        done = subprocess.run(
            [path, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return tuple(map(int, done.stdout.split()))


def has_torch_wheel(version: tuple[int, ...], settings: dict[str, list[str]]) -> bool:
    pin = re.search(r"^torch==(\S+)", CONSTRAINTS.read_text(), re.MULTILINE)
    pattern = f"torch-{pin.group(1) if pin else ''}*-cp{version[0]}{version[1]}-*.whl"
    wheels = [wheel for folder in settings["find-links"] for wheel in Path(folder).glob(pattern)]
    return any(platform.machine() in wheel.name for wheel in wheels)


def create_venv(python: str, environment: dict[str, str]) -> None:
    """`python -m venv`; without ensurepip (Debian splits it off) the outer pip fills in."""
    say(f"building .venv on {python}")
    if run([python, "-m", "venv", VENV], environment, quiet=True):
        return
    bare = [python, "-m", "venv", "--without-pip", "--clear", VENV]
    if not run(bare, environment):
        raise SetupError(
            f"'{python} -m venv' fails. On Debian and Ubuntu: apt install python3-venv"
        )
    MAKING.touch()
    pip = [python, "-m", "pip", "--python", PYTHON, "install", "-qq", "pip"]
    if not run(pip, environment):
        raise SetupError(
            f"{python} has neither ensurepip nor a pip that can fill a new environment. "
            "On Debian and Ubuntu: apt install python3-venv"
        )


# --- what pip is told ------------------------------------------------------------------------


def pip_settings(python: str) -> dict[str, list[str]]:
    """pip's configuration, all scopes and the environment: option → values that can work."""
    done = subprocess.run(
        [python, "-m", "pip", "config", "list"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=False,
    )
    scopes: dict[str, dict[str, list[str]]] = {"global": {}, "install": {}, ":env:": {}}
    for line in done.stdout.splitlines():
        match = re.match(r"(:env:|\w+)\.([\w-]+)=(.*)$", line)
        if match and match.group(1) in scopes:
            value = str(ast.literal_eval(match.group(3)))
            scopes[match.group(1)][match.group(2)] = value.split()
    settings: dict[str, list[str]] = {}
    for scope in scopes.values():  # the later scope wins, as in pip
        settings.update(scope)
    links = [value for scope in scopes.values() for value in scope.get("find-links", [])]
    folders = [local_path(value) for value in links]
    settings["find-links"] = sorted({str(path) for path in folders if path and path.is_dir()})
    for key in ("index-url", "extra-index-url"):
        urls = settings.get(key, [])
        settings[key] = [url for url in urls if not is_missing_folder(url)]
    return settings


def local_path(value: str) -> Path | None:
    """The path that a folder or file:// address means; None for a remote one."""
    url = urlparse(value)
    if url.scheme in ("", "file"):
        return Path(unquote(url.path)).expanduser()
    return None


def is_missing_folder(url: str) -> bool:
    path = local_path(url)
    return path is not None and not path.is_dir()


def environment_for(settings: dict[str, list[str]]) -> dict[str, str]:
    """The environment for uv and for the new environment's pip, with `settings` in both."""
    environment = dict(os.environ)
    for name in ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"):
        environment.pop(name, None)
    environment.update(
        PIP_CONSTRAINT=str(CONSTRAINTS),  # also for what builds the wheel
        PIP_BUILD_CONSTRAINT=str(CONSTRAINTS),
        PIP_DISABLE_PIP_VERSION_CHECK="1",
        PIP_USER="0",
        PIP_REQUIRE_VIRTUALENV="0",
    )
    environment.setdefault("UV_HTTP_TIMEOUT", "180")
    environment.setdefault("UV_PYTHON_DOWNLOADS", "never")
    handed = [
        ("find-links", "PIP_FIND_LINKS", "UV_FIND_LINKS"),
        ("index-url", "PIP_INDEX_URL", "UV_INDEX_URL"),
        ("extra-index-url", "PIP_EXTRA_INDEX_URL", "UV_EXTRA_INDEX_URL"),
        ("trusted-host", "PIP_TRUSTED_HOST", "UV_INSECURE_HOST"),
        ("no-index", "PIP_NO_INDEX", "UV_NO_INDEX"),
        ("cert", "PIP_CERT", "SSL_CERT_FILE"),
        ("proxy", "PIP_PROXY", "ALL_PROXY"),
    ]
    for key, for_pip, for_uv in handed:
        values = settings.get(key)
        if values:
            environment[for_pip] = " ".join(values)
            environment.setdefault(for_uv, (",", " ")[key != "find-links"].join(values))
    if settings.get("extra-index-url"):  # pip takes the best of all indexes; so shall uv
        environment.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    return environment


# --- installing ------------------------------------------------------------------------------


def install(extras: list[str], environment: dict[str, str]) -> None:
    """The project in editable form with `extras`, by uv, else by pip."""
    target = f"{ROOT}[{','.join(extras)}]" if extras else str(ROOT)
    wanted = ["-c", CONSTRAINTS, "-e", target]
    pip = [PYTHON, "-m", "pip", "install"]
    what = " with ".join(["warmstart", " and ".join(extras)] if extras else ["warmstart"])
    if os.environ.get("WARMSTART_INSTALLER") != "pip":
        uv = VENV / "bin" / "uv"
        if uv.exists() or run([*pip, "-qq", "uv"], environment):
            say(f"installing {what} (uv)")
            build = ["--build-constraints", CONSTRAINTS]
            command = [uv, "pip", "install", "--quiet", "--python", PYTHON, *build, *wanted]
            if run(command, environment):
                return
        say("uv did not manage; trying pip, which takes about a minute more")
    say(f"installing {what} (pip)")
    if not run([*pip, "-qq", *wanted], environment):
        raise SetupError("the packages could not be installed; the lines above say why")


def run(command: list, environment: dict[str, str], quiet: bool = False) -> bool:
    """Run to the end; True if it succeeded."""
    sink = subprocess.DEVNULL if quiet else None
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            env=environment,
            cwd=str(ROOT),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            check=False,
        )
    except OSError as error:
        say(f"{words[0]}: {error}")
        return False
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
