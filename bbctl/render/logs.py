"""Lines of logs as text or JSON lines, whole batches at once; on a terminal made harmless and with matches marked."""

from __future__ import annotations

import re
import sys
import threading
from json.encoder import encode_basestring as quoted

from bbctl.render import screen

_PALETTE = (36, 33, 35, 32, 34, 96, 93, 95)  # one colour a host, so that the eye can follow it


class Writer:
    """Takes batches from many threads. Where nobody reads any more, `closed` is true and `stop` is set."""

    def __init__(
        self, stop: threading.Event, *, json: bool, highlight: re.Pattern[str] | None = None, plain: bool = False
    ) -> None:
        self.closed = False
        self._stop = stop
        self._json = json
        self._highlight = highlight
        self._tty = sys.stdout.isatty() and not json
        self._colour = self._tty and not plain
        self._lock = threading.Lock()
        self._colours: dict[str, int] = {}

    def lines(self, host: str, batch: list[bytes]) -> None:
        """Lines of one host; what is no UTF-8 becomes U+FFFD. Sets `closed` instead of raising where nobody reads."""
        texts = b"\n".join(batch).decode("utf-8", "replace").replace("\r\n", "\n").removesuffix("\r").split("\n")
        if self._json:
            head = f'{{"host": {quoted(host)}, "line": '
            self._write("".join([f"{head}{quoted(text)}}}\n" for text in texts]))
        elif self._tty:
            head = self._head(host)
            self._write("".join(f"{head}{self._shown(text)}\n" for text in texts))
        else:
            head = f"{host}: "
            self._write(head + f"\n{head}".join(texts) + "\n")

    def failed(self, host: str, status: str, error: str | None) -> None:
        """A log that could not be read to its end."""
        if self._json:
            why = quoted(error or status)
            self._write(f'{{"host": {quoted(host)}, "line": null, "status": {quoted(status)}, "error": {why}}}\n')
        else:
            screen.err(f"{host}: {status}: {screen.safe(error or '')}")

    def _head(self, host: str) -> str:
        short = host.split(".", 1)[0]
        if not self._colour:
            return f"{short}: "
        number = self._colours.setdefault(host, _PALETTE[len(self._colours) % len(_PALETTE)])
        return f"\x1b[{number}m{short}\x1b[0m "

    def _shown(self, text: str) -> str:
        text = screen.safe(text)
        if self._highlight is None or not self._colour:
            return text
        return self._highlight.sub(lambda m: f"\x1b[1;7m{m[0]}\x1b[0m" if m[0] else "", text)

    def _write(self, text: str) -> None:
        with self._lock:
            try:
                sys.stdout.buffer.write(text.encode("utf-8", "replace"))
                sys.stdout.buffer.flush()
            except BrokenPipeError:
                self.closed = True
                self._stop.set()
