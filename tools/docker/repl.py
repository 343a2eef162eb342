#!/usr/bin/env python3
"""Serve a REPL on port 3133: JupyterLab and its kernels, for whoever has the token.

    repl --ip 127.0.0.1 --port 3133

The token is `JUPYTER_TOKEN`; without it, a random one is made and printed once, in the
address to open. A browser can open that address, and VS Code or any other client of
Jupyter can connect to it. Whoever has the token can run anything here, so that nothing
is served without one, whatever Jupyter's own configuration says. Flags that are not
named here go to JupyterLab.
"""

from __future__ import annotations

import argparse
import os
import secrets
import socket
import sys
import warnings
from typing import Mapping, NoReturn

PORT = 3133  # Clojure's REPL was there in the xenon of 2019
EVERY_ADDRESS = ("0.0.0.0", "::")
TOKEN = "JUPYTER_TOKEN"  # the variable, as Jupyter itself names it
TOKEN_BYTES = 24  # as many as Jupyter's own tokens have

# JupyterLab asks its makers for news and for updates otherwise.
QUIET = [
    "--Application.log_level=WARN",
    "--LabApp.news_url=None",
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
]


def main() -> None:
    """Serve until a signal ends it."""
    parser = argparse.ArgumentParser(
        "repl",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--ip", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", default=PORT, type=port, help="port to listen on")
    told, others = parser.parse_known_args()
    token = given_token(os.environ)
    check_address(told.ip)
    os.environ[TOKEN] = token or secrets.token_hex(TOKEN_BYTES)
    # Imported late: an empty token is refused, and --help answers, at once.
    try:
        from jupyter_server.utils import JupyterServerAuthWarning
        from jupyterlab.labapp import LabApp
    except ModuleNotFoundError as error:
        fail(f"{error}: pip install 'xenon-mx[repl]'")

    # Said of handlers that forgot to ask for the token; the server asks for them, by
    # allow_unauthenticated_access below.
    warnings.simplefilter("ignore", JupyterServerAuthWarning)
    server = LabApp.initialize_server(
        [
            f"--ServerApp.ip={told.ip}",
            f"--ServerApp.port={told.port}",
            "--ServerApp.port_retries=0",  # another port would not be published
            "--ServerApp.open_browser=False",
            "--ServerApp.allow_unauthenticated_access=False",
            *QUIET,
            *others,
        ]
    )
    if server.identity_provider.token != os.environ[TOKEN]:
        fail(f"a configuration or a flag of Jupyter's sets another token than {TOKEN}")
    shown = "<your JUPYTER_TOKEN>" if token else os.environ[TOKEN]
    host = "127.0.0.1" if told.ip in EVERY_ADDRESS else told.ip
    # Its turn comes after that of binding the port, which ends the server if it fails.
    address = f"REPL: http://{host}:{told.port}/lab?token={shown}"
    server.io_loop.add_callback(say, address)
    server.start()


def port(text: str) -> int:
    """A port as a flag gives it; 0, any free one, would be one that nobody knows."""
    if not 0 < int(text) < 1 << 16:
        raise ValueError
    return int(text)


def check_address(address: str) -> None:
    """End if this computer has no such address."""
    try:
        family, *_, place = socket.getaddrinfo(address, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind(place)
    except OSError as error:
        fail(f"--ip {address}: {error.strerror or error}")


def given_token(environment: Mapping[str, str]) -> str | None:
    """The token that the user gave; None if there is to be a random one."""
    token = environment.get(TOKEN)
    if token is not None and not token.strip():
        fail(f"{TOKEN} is empty: give it a secret, or leave it out for a random one")
    return token


def fail(line: str) -> NoReturn:
    """End with what went wrong and what to do."""
    sys.exit(f"error: {line}")


def say(line: str) -> None:
    """Tell the user what goes on, at once."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
