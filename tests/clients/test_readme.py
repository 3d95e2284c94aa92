"""What the README shows runs."""

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


CODE, DROP_IN = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


def test_the_lines_of_python_send_datagrams(pair, capsys):
    exec(compile(CODE, "README.md", "exec"), {})
    first, second = capsys.readouterr().out.splitlines()
    assert first == "(b'hello yourself', ('127.0.0.1', 8080))"
    assert second.startswith("(b'hello again', (")


def test_the_lines_before_a_program_give_it_our_sockets(pair):
    program = DROP_IN + "import socket\nprint(type(socket.socket(2, 2)).__qualname__)"
    argv = [sys.executable, "-W", "ignore", "-c", program]
    done = subprocess.run(argv, env=pair[0].env, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("InetSocket\n", "")
