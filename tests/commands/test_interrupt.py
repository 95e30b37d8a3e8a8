import errno
import os
import signal

import pytest

from metaopt.commands.interrupt import stop_on_signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_asks_and_the_second_acts(number, capsys):
    def second(*_):
        raise RuntimeError("acted")

    before = signal.signal(number, second)
    try:
        with stop_on_signals() as stop:
            assert not stop()
            os.kill(os.getpid(), number)
            assert stop()
            assert stop.exit_code == 128 + number
            assert "stopping" in capsys.readouterr().err
            with pytest.raises(RuntimeError, match="acted"):
                os.kill(os.getpid(), number)
        assert signal.getsignal(number) is second
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_what_is_ignored_stays_ignored(number):
    """As nohup does to SIGHUP, and a shell to SIGINT of what it starts in the background."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with stop_on_signals() as stop:
            os.kill(os.getpid(), number)
            assert not stop()
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_a_terminal_that_is_gone_keeps_nothing_from_being_saved(monkeypatch):
    class Gone:
        def write(self, _):
            raise OSError(errno.EIO, "Input/output error")

        flush = write

    monkeypatch.setattr("sys.stderr", Gone())
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        with stop_on_signals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop()
            assert stop.exit_code == 129
    finally:
        signal.signal(signal.SIGHUP, before)
