"""Compiles kernels with the user's C compiler, once for a machine, into a private cache folder.

A library is named by the digest of its own bytes, inside a folder named by the digest of all that it
follows from: sources, flags, compiler, processor features. It is published by a rename, so
processes that compile at once do not disturb each other, and a damaged file is never loaded.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from featurestore.errors import MeristemError

log = logging.getLogger(__name__)

FLAGS: Final = (
    "-O3", "-std=gnu11", "-ffp-contract=fast", "-fPIC", "-shared", "-pthread",
)  # fmt: skip
NATIVE: Final = ("-march=native", "-mcpu=native")
"""How compilers are told to use the features of this processor; the first that works is taken."""
TIME_LIMIT: Final = 300
"""Seconds a compiler may take."""


class KernelError(MeristemError, OSError):
    """The kernels cannot be compiled, loaded or trusted here; the message says why."""


@dataclass(frozen=True)
class Compiler:
    """A C compiler, its version, and its predefined macros, which name the processor's features."""

    command: tuple[str, ...]
    version: str
    native: tuple[str, ...]
    macros: str = field(repr=False)

    @property
    def vectors(self) -> str:
        """Vector units that the kernels use, in words."""
        names = {"__AVX512DQ__": "AVX-512", "__AVX2__": "AVX2", "__AVX__": "AVX", "__ARM_NEON": "NEON"}  # fmt: skip
        return next((word for macro, word in names.items() if self.has(macro)), "128-bit vectors")

    def has(self, macro: str) -> bool:
        """Whether a macro is predefined, such as ``__AVX512BF16__``."""
        return f"#define {macro} " in self.macros

    def key(self, sources: Path) -> str:
        """Digest of all that the library compiled from a folder of sources follows from."""
        digest = hashlib.sha256()
        for word in (*self.command, *FLAGS, *self.native, self.version, self.macros):
            digest.update(word.encode() + b"\0")
        for path in sorted(sources.iterdir()):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
        return digest.hexdigest()[:32]


def find_compiler() -> Compiler:
    """The compiler of ``$CC``, or the first of cc, gcc and clang.

    Raises
    ------
    KernelError
        If there is none, or it does not answer.
    """
    if sys.platform == "win32":
        raise KernelError("the kernels need a POSIX system: use Linux, macOS or WSL")
    given = shlex.split(os.environ.get("CC", ""))
    candidates = [given] if given else [["cc"], ["gcc"], ["clang"]]
    command = next((c for c in candidates if shutil.which(c[0])), None)
    if command is None:
        wanted = given[0] if given else "cc, gcc or clang"
        raise KernelError(
            f"no C compiler found ({wanted}); install one (Debian: apt install gcc; conda: conda "
            "install c-compiler; macOS: xcode-select --install) or set CC"
        )
    version = _ask([*command, "--version"]).splitlines()
    for native in (*((flag,) for flag in NATIVE), ()):
        try:
            macros = _ask([*command, *native, "-dM", "-E", "-x", "c", os.devnull])
        except KernelError:
            continue
        return Compiler(tuple(command), version[0] if version else "", native, macros)
    raise KernelError(f"{shlex.join(command)} does not preprocess C; set CC to a working compiler")


def _ask(command: list[str]) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIME_LIMIT, check=False,
            env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KernelError(f"{shlex.join(command)}: {error}") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-600:]
        raise KernelError(f"{shlex.join(command)} failed with status {done.returncode}: {said}")
    return done.stdout


def cache_folder() -> Path:
    """Where compiled kernels are kept: ``MERISTEM_CACHE``, else the user's cache folder."""
    if given := os.environ.get("MERISTEM_CACHE"):
        return Path(given).expanduser().absolute() / "kernels"
    if given := os.environ.get("XDG_CACHE_HOME"):
        return Path(given).absolute() / "meristem" / "kernels"
    try:
        home = Path.home()
    except RuntimeError as error:
        raise KernelError(f"no home folder ({error}); set MERISTEM_CACHE to a folder") from error
    caches = home / "Library" / "Caches" if sys.platform == "darwin" else home / ".cache"
    return caches / "meristem" / "kernels"


def _private(folder: Path) -> Path:
    """Make a folder that only this user may write to, or refuse one that others may."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise KernelError(
            f"{folder}: cannot be made ({error.strerror}); set MERISTEM_CACHE to a folder of yours"
        ) from error
    _check_owner(folder)
    return folder


def _check_owner(path: Path) -> None:
    found = path.lstat()
    mine = found.st_uid == os.getuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if not mine or stat.S_ISLNK(found.st_mode):
        raise KernelError(
            f"{path}: is not yours alone (owner {found.st_uid}, mode {found.st_mode & 0o777:o}), and "
            "code from there could be anyone's; remove it or set MERISTEM_CACHE to a folder of yours"
        )


def compiled(compiler: Compiler, sources: Path, *, quiet: bool = False) -> Path:
    """The compiled library of a folder of sources, from the cache or made now.

    Parameters
    ----------
    sources : Path
        Holds ``.c`` files, which become one library, and the headers that they include.
    quiet : bool
        Log compiling below warnings: for what compiles in less time than a reader of logs takes.

    Raises
    ------
    KernelError
        If compiling fails, or the cache folder is not the user's own or not writable.
    """
    folder = _private(_private(cache_folder()) / compiler.key(sources))
    for path in sorted(folder.glob("*.so")):
        _check_owner(path)
        if _digest(path) == path.stem:
            return path
        log.warning("%s is damaged; the kernels are compiled again", path)
        path.unlink(missing_ok=True)
    return _compile(compiler, sources, folder, logging.INFO if quiet else logging.WARNING)


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def _compile(compiler: Compiler, sources: Path, folder: Path, level: int) -> Path:
    files = [str(p) for p in sorted(sources.glob("*.c"))]
    started = time.monotonic()
    try:
        handle, name = tempfile.mkstemp(suffix=".tmp", dir=folder)
    except OSError as error:
        raise KernelError(
            f"{folder}: not writable ({error.strerror}); set MERISTEM_CACHE to a folder of yours"
        ) from error
    os.close(handle)
    temporary = Path(name)
    # Mostly as a warning, so that whoever waits sees why: this happens once on a machine.
    log.log(
        level, "compiling kernels for this processor with %s; once, takes seconds", compiler.command[0]
    )  # fmt: skip
    try:
        _ask([*compiler.command, *FLAGS, *compiler.native, *files, "-o", name, "-lm"])
        temporary.chmod(0o700)
        path = folder / f"{_digest(temporary)}.so"
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    seconds = time.monotonic() - started
    log.info("kernels compiled with %s in %.1f s: %s", compiler.version, seconds, path)
    return path
