"""What the tests of links share: an owner of an end that waits for what it is told, and a tap on the wire."""

import contextlib
import os
import select
import socket
import threading
import time
from pathlib import Path

from trivium.runtime.links import Keys, Links

PATIENCE = 20.0


class Owner:
    """One end, and what came out of it; every wait is bounded and ends on its ring."""

    def __init__(self, me, **options):
        self.keys = options.pop("keys", None) or Keys.fresh()
        self._rung = threading.Event()
        self.links = Links(me, self.keys, ring=self._rung.set, **options)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.links.close()

    def until(self, holds, within=PATIENCE):
        """Wait for ``holds()``, which is asked again at each ring, and each 20 ms for what does not ring."""
        end = time.monotonic() + within
        while not holds():
            assert time.monotonic() < end, f"not within {within} s"
            self._rung.wait(0.02)
            self._rung.clear()

    def take(self, within=PATIENCE):
        self.until(lambda: self.links.received, within)
        return self.links.received.popleft()

    def join(self, peer, within=PATIENCE):
        self.until(lambda: self.links.joined, within)
        assert self.links.joined.popleft() == peer

    def lose(self, peer, within=PATIENCE):
        start = time.monotonic()
        self.until(lambda: self.links.lost, within)
        assert self.links.lost.popleft() == peer
        return time.monotonic() - start


def pair(**options):
    """Two ends, 0 with the door and 1 that dials it, both joined."""
    here, there = Owner(0, **options), Owner(1, **options)
    here.links.allow(1, there.keys.public)
    there.links.connect(0, here.links.endpoint, here.keys.public)
    here.join(1)
    there.join(0)
    return here, there


@contextlib.contextmanager
def paired(**options):
    """A ``pair`` that is closed in the end."""
    here, there = pair(**options)
    with here, there:
        yield here, there


def port(endpoint):
    return int(endpoint.rsplit(":", 1)[1])


def descriptors():
    """Kinds of all open descriptors; that of the listing itself is gone by then."""
    return sorted(str(fd.readlink()) for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink())


def tasks():
    return len(list(Path("/proc/self/task").iterdir()))


class Tap:
    """A relay to ``target`` that keeps every byte that goes through, both ways, and can break its connections."""

    def __init__(self, target):
        self.target, self.seen = target, bytearray()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"tcp://127.0.0.1:{self._server.getsockname()[1]}"
        self._other = {}
        self._over, self._stop = os.pipe()
        self._orders = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.write(self._stop, b"x")
        self._thread.join()
        os.close(self._over)
        os.close(self._stop)

    def sever(self):
        """End all connections; new ones are served."""
        os.write(self._stop, b"s")

    def _run(self):
        while True:
            ready, _, _ = select.select([self._server, self._over, *self._other], [], [], PATIENCE)
            if self._over in ready:
                order = os.read(self._over, 1)
                self._drop(*self._other)
                if order == b"x":
                    self._server.close()
                    return
                continue
            for one in ready:
                if one is self._server:
                    client = one.accept()[0]
                    server = socket.create_connection(("127.0.0.1", self.target))
                    self._other.update({client: server, server: client})
                elif one in self._other:
                    self._relay(one)

    def _relay(self, one):
        try:
            data = one.recv(1 << 16)
            self.seen += data
            self._other[one].sendall(data)
        except OSError:
            data = b""
        if not data:
            self._drop(one, self._other[one])

    def _drop(self, *sockets):
        for one in sockets:
            self._other.pop(one, None)
            one.close()
