"""Ports for processes that meet."""

import socket


def free_port() -> int:
    """A port at which nothing listens."""
    with socket.socket() as server:
        server.bind(("localhost", 0))
        return server.getsockname()[1]
