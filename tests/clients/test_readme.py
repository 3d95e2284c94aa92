"""What the README shows runs."""

import re
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def test_the_lines_of_python_send_datagrams(pair, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    first, second = capsys.readouterr().out.splitlines()
    assert first == "(b'hello yourself', ('127.0.0.1', 8080))"
    assert second.startswith("(b'hello again', (")
