"""What the build makes of mhostctl's parser: a manual page, and completion."""

import argparse
import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lab import BIN
from mhost.ctl.main import parser
from mhost.ctl.run import directory

SHARE = Path(sys.prefix) / "share"


@pytest.mark.parametrize("page", ["man1/mhostctl.1", "man3/libmhost.3", "man8/mhostd.8"])
def test_a_manual_page_is_well_formed(page):
    argv = ["mandoc", "-T", "lint", "-W", "warning", SHARE / "man" / page]
    done = subprocess.run(argv, capture_output=True, text=True)
    # argparse-manpage writes the date as mandoc does not expect it.
    assert [line for line in done.stdout.splitlines() if "cannot parse date" not in line] == []


def rendered(page):
    argv = ["mandoc", "-T", "utf8", "-O", "width=200", SHARE / "man" / page]
    text = subprocess.run(argv, capture_output=True, check=True).stdout.decode()
    return re.sub(".\b", "", text)  # bold is overstruck


def verbs(top, name="mhostctl"):
    """(command, parser) of every verb."""
    for action in top._actions:
        if isinstance(action, argparse._SubParsersAction):
            for verb, sub in action.choices.items():
                yield f"{name} {verb}", sub
                yield from verbs(sub, f"{name} {verb}")


def test_mhostctl_1_has_every_verb_and_option():
    text = rendered("man1/mhostctl.1")
    headings = {line for line in text.splitlines() if line and not line[0].isspace()}
    assert {"NAME", "SYNOPSIS", "VERBS", "OPTIONS", "EXAMPLES", "FILES"} <= headings
    found = dict(verbs(parser()))
    assert len(found) > 8
    for command, verb in found.items():
        section = text.split(f"\n   {command}\n")[1].split("\n   mhostctl ")[0]
        for action in verb._actions:
            for option in set(action.option_strings) - {"-h", "--help"}:
                assert option in section
    assert "mhostctl hosts add robot 10.77.2.1" in text


def test_mhostd_8_has_every_option():
    text = rendered("man8/mhostd.8")
    help_text = subprocess.run(
        [BIN / "mhostd", "--help"], capture_output=True, text=True
    ).stdout
    options = {word.strip("[],") for word in help_text.split() if word.startswith(("-", "[-"))}
    assert {"--config", "--version"} <= options
    for option in options:
        assert option in text


BASH = r"""
source "$1"; shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
line=$(complete -p mhostctl); line=${line#*-F }
"${line%% *}" mhostctl "${@: -1}" "${@: -2:1}"
printf '%s\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("words", "want"),
    [
        (["st"], {"status"}),
        (["hosts", ""], {"add", "del"}),
        (["l3", "u"], {"up"}),
        (["sockets", "--j"], {"--json"}),
        (["-j", "drop"], {"drops"}),
        (["config", "check", "mhostd.to"], {"mhostd.toml"}),
        (["nosuch"], set()),
    ],
)
def test_bash_completes(words, want):
    script = SHARE / "bash-completion/completions/mhostctl"
    argv = ["bash", "-c", BASH, "-", script, "mhostctl", *words]
    systemd = Path(__file__).resolve().parents[2] / "systemd"
    done = subprocess.run(argv, capture_output=True, text=True, cwd=systemd)
    assert (done.stderr, set(done.stdout.split())) == ("", want)


@pytest.mark.parametrize(
    ("typed", "want"), [("st", "status "), ("hosts a", "add "), ("sockets --js", "--json ")]
)
def test_zsh_completes(typed, want):
    near, far = pty.openpty()
    env = {"PATH": os.environ["PATH"], "TERM": "dumb", "HOME": "/nonexistent"}
    with subprocess.Popen(
        ["zsh", "-f", "-i"], stdin=far, stdout=far, stderr=far, env=env, start_new_session=True
    ) as zsh:
        os.close(far)
        try:
            functions = SHARE / "zsh/site-functions"
            os.write(near, f"fpath=({functions} $fpath); autoload -Uz compinit\r".encode())
            os.write(near, b"compinit -u -D; echo rea''dy\r")
            read_until(near, "ready\r")
            os.write(near, f"mhostctl {typed}\t".encode())
            read_until(near, f"mhostctl {typed.rpartition(' ')[0]} {want}".replace("  ", " "))
        finally:
            zsh.kill()
            os.close(near)


def read_until(fd, text, timeout_s=30):
    os.set_blocking(fd, False)
    deadline = time.monotonic() + timeout_s
    seen = ""
    while text not in seen:
        assert time.monotonic() < deadline, f"{text!r} is not in {seen!r}"
        try:
            seen += os.read(fd, 4096).decode()
        except BlockingIOError:
            time.sleep(0.01)


def test_libmhost_3_has_every_call_of_the_header():
    header = (Path(directory()) / "mhost.h").read_text()
    calls = set(re.findall(r"\b(mhost_\w+)\(int|\b(mhost_\w+)\(", header))
    names = {name for pair in calls for name in pair if name}
    text = rendered("man3/libmhost.3")
    assert len(names) > 20
    assert [name for name in names if f"{name}(" not in text] == []


def test_the_example_of_libmhost_3_compiles(tmp_path):
    text = rendered("man3/libmhost.3")
    example = text[text.index("#include <errno.h>") : text.index("A server: socat")]
    (tmp_path / "hello.c").write_text(example)
    flags = subprocess.run(
        [BIN / "mhostctl", "dev", "--cflags", "--libs"], capture_output=True, text=True
    ).stdout.split()
    argv = ["cc", "-Wall", "-Wextra", "-Werror", "-o", tmp_path / "hello", tmp_path / "hello.c"]
    subprocess.run([*argv, *flags], check=True)
    usage = subprocess.run([tmp_path / "hello"], capture_output=True, text=True)
    assert (usage.returncode, usage.stderr) == (2, "usage: hello HOST PORT\n")
