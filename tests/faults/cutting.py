"""A relay in front of PostgreSQL that cuts connections where it hurts most: at their COMMIT."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from typing import Final

_COMMIT: Final = b"COMMIT\0"


class Relay:
    """Passes connections on to a server, and cuts some of them.

    Parameters
    ----------
    port
        Of the server, on 127.0.0.1.
    every
        Of so many commits one is cut, at random: counted, it might be the same of a batch for ever.
        By turns before the server gets it, so that the transaction is lost, and after, so that it
        is done and only the answer is lost.
    """

    def __init__(self, port: int, every: int) -> None:
        self._server_port, self._every = port, every
        #: Whether it cuts.
        self.cuts = False
        seed = random.randrange(1000)
        self._dice = random.Random(seed)
        print(f"seed {seed}")  # shown if the test fails
        #: How often a commit was cut before and after it took place.
        self.before = self.after = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _falls(self) -> bool:
        return self._dice.random() < 1 / self._every

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self._server_port))
        except OSError:
            client.close()
            return
        answered = threading.Event()
        answers = threading.Thread(target=_answer, args=(server, client, answered), daemon=True)
        answers.start()
        with client, server, contextlib.suppress(OSError):
            while data := client.recv(1 << 16):
                if self.cuts and data.endswith(_COMMIT) and self._falls():
                    if self.before > self.after:
                        self.after += 1
                        _mute(client, answered)
                        server.sendall(data)
                        answered.wait(10)
                    else:
                        self.before += 1
                    break
                server.sendall(data)
            for end in (client, server):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            answers.join(10)


def _mute(client: socket.socket, answered: threading.Event) -> None:
    """What the server says from now on is not passed on."""
    client.shutdown(socket.SHUT_WR)
    answered.clear()


def _answer(server: socket.socket, client: socket.socket, answered: threading.Event) -> None:
    with contextlib.suppress(OSError):
        while data := server.recv(1 << 16):
            answered.set()
            with contextlib.suppress(BrokenPipeError):
                client.sendall(data)
    answered.set()
