"""`mhostctl run` and `mhostctl dev`: libmhost, and programs with it in front of them."""

from __future__ import annotations

import os
import shutil
import stat
import struct
import sys

import mhost

EXIT_USAGE, EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND = 2, 126, 127  # the last two as env(1)

_EHDR = struct.Struct("=16xHHIQQQIHHH")  # Elf64_Ehdr to e_phnum, elf(5)
_PHDR_TYPE = struct.Struct("=I")
_PT_INTERP = 3


def directory() -> str:
    """Where libmhost, its header and the preloader are."""
    return os.path.join(os.path.dirname(os.path.abspath(mhost.__file__)), "c")


def flags(*, cflags: bool, libs: bool, static: bool) -> str:
    """What a C compiler is to be given."""
    where = directory()
    words = [f"-I{where}"] if cflags else []
    if libs and static:
        words += [os.path.join(where, "libmhost.a"), "-pthread"]
    elif libs:
        words += [f"-L{where}", "-lmhost", f"-Wl,-rpath,{where}"]
    return " ".join(words)


def run(family: str, argv: list[str]) -> int:
    """Become a program whose datagram sockets are on mhostd.

    Returns:
        Only if it cannot be started: 126 or 127, as env(1).
    """
    found = shutil.which(argv[0])
    if found is None:
        there = os.path.exists(argv[0])
        text = "is not executable" if there else "is not in PATH; name the file"
        print(f"mhostctl: run: {argv[0]} {text}", file=sys.stderr)
        return EXIT_NOT_EXECUTABLE if there else EXIT_NOT_FOUND
    reason = _out_of_reach(found)
    if reason:
        text = "its sockets are the kernel's (docs/use-your-program.md)"
        print(f"mhostctl: run: {found} {reason}: {text}", file=sys.stderr)
    preload = os.path.join(directory(), "libmhost_preload.so")
    others = os.environ.get("LD_PRELOAD")
    os.environ["LD_PRELOAD"] = f"{preload}:{others}" if others else preload
    os.environ["MHOST_PRELOAD"] = family
    try:
        os.execv(found, argv)  # noqa: S606
    except OSError as err:
        print(f"mhostctl: run: {found}: {err.strerror}", file=sys.stderr)
        return EXIT_NOT_EXECUTABLE


def _out_of_reach(path: str) -> str:
    """Why the dynamic linker will not load a library into a program; empty if it will."""
    mode = os.stat(path).st_mode
    if mode & (stat.S_ISUID | stat.S_ISGID):
        return "is setuid or setgid, so LD_PRELOAD is ignored"
    try:
        with open(path, "rb") as file:
            return "" if _is_dynamic(file.read(65536)) else "is static, or not of this machine"
    except (OSError, struct.error):
        return ""


def _is_dynamic(octets: bytes) -> bool:
    """Whether an ELF file has a program interpreter; a script's is not looked at."""
    if octets[:4] != b"\x7fELF":
        return True
    _type, _machine, _v, _entry, phoff, _sh, _flags, _eh, phentsize, phnum = _EHDR.unpack_from(
        octets
    )
    starts = range(phoff, phoff + phentsize * phnum, phentsize)
    return any(_PHDR_TYPE.unpack_from(octets, at)[0] == _PT_INTERP for at in starts)
