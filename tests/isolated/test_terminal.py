"""What somebody who sits before a terminal sees of isolated tests, and types: a real terminal, with pytest at its other end."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import sys
import termios
import time
from collections.abc import Callable, Iterator

import pytest

TESTS = """
import os, pytest

@pytest.fixture
def down():
    yield
    print("torn down")
@pytest.fixture(scope="module")
def shared():
    yield "of the module"
    print("shared down")
def test_fails(down, shared):
    print("said before")
    assert os.getpid() == 1
def test_next(shared): print("said next")
"""


class Terminal:
    """A session of pytest that has a terminal of its own."""

    def __init__(self, arguments: tuple[str, ...]) -> None:
        # It becomes the terminal that controls the session: its keys are signals.
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            os.execve(sys.executable, [sys.executable, "-m", "pytest", *arguments], {**os.environ, "TERM": "dumb"})
        settings = termios.tcgetattr(self._fd)
        settings[3] &= ~termios.ECHO
        termios.tcsetattr(self._fd, termios.TCSANOW, settings)
        self.text, self._seen = "", 0

    def until(self, wanted: str, seconds: float = 30.0) -> None:
        """Read on until what it writes matches the expression."""
        end = time.monotonic() + seconds
        while not (found := re.compile(wanted).search(self.text, self._seen)):
            assert self._read(end), f"no {wanted!r} in:\n{self.text}"
        self._seen = found.end()

    def asked(self, line: str, answer: str) -> None:
        """Type at the debugger's prompt, and wait for what comes."""
        self.until(r"\(Pdb\) $")
        self.type(line)
        self.until(answer)

    def type(self, line: str) -> None:
        """Press some keys, and enter."""
        os.write(self._fd, f"{line}\n".encode())

    def end(self) -> int:
        """Its exit status, when it has written everything."""
        end = time.monotonic() + 30
        while self._read(end):
            pass
        assert time.monotonic() < end, f"it has no end:\n{self.text}"
        pid, self._pid = self._pid, 0
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def _read(self, end: float) -> bool:
        while time.monotonic() < end:
            if not select.select([self._fd], [], [], 0.1)[0]:
                continue
            try:
                said = os.read(self._fd, 4096)
            except OSError:
                return False  # EIO: nobody has it open any more
            self.text += said.decode(errors="replace").replace("\r\n", "\n")
            return bool(said)
        return False

    def close(self) -> None:
        """Whatever it does."""
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        os.close(self._fd)


@pytest.fixture
def terminal(inner: pytest.Pytester) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def open_terminal(*arguments: str) -> Terminal:
        opened.append(Terminal(("--nsjail", *arguments)))
        return opened[-1]

    yield open_terminal
    for one in opened:
        one.close()


def test_a_debugger_is_in_the_jail(inner: pytest.Pytester, terminal: Callable[..., Terminal]) -> None:
    inner.makepyfile(test_it=TESTS)
    session = terminal("--pdb")
    session.until("entering PDB")
    session.asked("p 1 + 1", r"\b2\n")
    session.asked("p os.getpid(), shared", r"\(2, 'of the module'\)")
    session.asked("\x03", "KeyboardInterrupt")
    session.asked("w", r"-> assert os.getpid\(\) == 1")
    session.until(r"\(Pdb\) $")
    session.type("c")
    assert session.end() == 1
    assert "1 failed, 1 passed" in session.text
    assert session.text.count("E       assert 2 == 1") == 1
    # What it had said is shown before the prompt, and not again.
    assert session.text.count("\nsaid before\n") == 1


def test_a_breakpoint_has_no_time_limit(inner: pytest.Pytester, terminal: Callable[..., Terminal]) -> None:
    inner.makepyfile(test_it="""
        import os, pytest
        @pytest.mark.isolated(timeout=1)
        @pytest.mark.timeout(1)
        def test_it():
            number = 3
            breakpoint()
            assert number == 4
        def test_quits(): breakpoint()
        def test_last(): pass
    """)
    session = terminal("-p", "timeout")
    session.until(r"PDB set_trace")
    session.until(r"-> assert number == 4|-> breakpoint\(\)")
    session.asked("import time; time.sleep(1.2); print('slept')", "slept")
    session.asked("number = 4", "")
    session.asked("p number, os.getpid()", r"\(4, 2\)")
    session.asked("c", "PDB set_trace")
    session.until(r"\(Pdb\) $")
    session.type("q")
    assert session.end() == 2
    assert "1 passed" in session.text
    assert "test_last" not in session.text


def test_each_test_from_its_first_line(inner: pytest.Pytester, terminal: Callable[..., Terminal]) -> None:
    inner.makepyfile("def test_it():\n    number = 3\n    assert number == 3\n")
    session = terminal("--trace")
    session.until(r"PDB runcall")
    session.asked("n", r"-> assert number == 3")
    session.asked("p number", "3\n")
    session.until(r"\(Pdb\) $")
    session.type("c")
    assert session.end() == 0


def test_a_conversation_while_the_test_runs(inner: pytest.Pytester, terminal: Callable[..., Terminal]) -> None:
    inner.makepyfile("""
        import logging, os, sys
        def test_it():
            assert sys.stdin.isatty() and sys.stdout.isatty()
            logging.getLogger().warning("a log")
            print("the name of", os.getpid(), end="? ", flush=True)
            assert input() == "somebody"
            assert open("/dev/tty", "w").write("to the terminal itself\\n") == 23
    """)
    session = terminal("-s", "-o", "log_cli=true")
    session.until("live log call")
    session.until("a log")
    session.until(r"the name of 2\? ")
    session.type("somebody")
    session.until("to the terminal itself")
    assert session.end() == 0


def test_an_interrupt_by_the_keyboard(inner: pytest.Pytester, terminal: Callable[..., Terminal]) -> None:
    inner.makepyfile(test_it=TESTS + """
def test_long(down):
    print("begun", flush=True)
    while True: pass
def test_last(): pass
""")
    session = terminal("-s", "-v")
    session.until("begun")
    session.type("\x03")
    assert session.end() == 2
    assert session.text.count("torn down") == 2
    assert "shared down" in session.text
    assert "KeyboardInterrupt" in session.text
    assert "test_last" not in session.text
