#!/usr/bin/env python3
"""Serve a REPL on port 3133: JupyterLab and its kernels, protected by a token.

    repl --ip 127.0.0.1 --port 3133

The token is `JUPYTER_TOKEN`; without it, a random token is created and printed once, in
the address to open in a browser, VS Code or any other Jupyter client. The token gives
access to everything here, so the server never runs without one, whatever Jupyter's
configuration contains. Other flags are passed to JupyterLab.
"""

from __future__ import annotations

import argparse
import os
import secrets
import socket
import sys
import warnings
from typing import Mapping, NoReturn

PORT = 3133  # the port of the Clojure REPL in the xenon of 2019
EVERY_ADDRESS = ("0.0.0.0", "::")
TOKEN = "JUPYTER_TOKEN"  # Jupyter's environment variable
TOKEN_BYTES = 24  # the length of Jupyter's own tokens

# Otherwise JupyterLab fetches news and looks for updates.
QUIET = [
    "--Application.log_level=WARN",
    "--LabApp.news_url=None",
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
]


def main() -> None:
    """Serve until a signal arrives."""
    parser = argparse.ArgumentParser(
        "repl",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--ip", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", default=PORT, type=port, help="port to listen on")
    options, jupyter_flags = parser.parse_known_args()
    token = given_token(os.environ)
    check_address(options.ip)
    os.environ[TOKEN] = token or secrets.token_hex(TOKEN_BYTES)
    # Imported here, so that --help and the checks above are quick.
    try:
        from jupyter_server.utils import JupyterServerAuthWarning
        from jupyterlab.labapp import LabApp
    except ModuleNotFoundError as error:
        fail(f"{error}: pip install '.[repl]' in a checkout of xenon")

    # The warning is about handlers without authentication, for which
    # allow_unauthenticated_access=False below makes the server require the token.
    warnings.simplefilter("ignore", JupyterServerAuthWarning)
    server = LabApp.initialize_server(
        [
            f"--ServerApp.ip={options.ip}",
            f"--ServerApp.port={options.port}",
            "--ServerApp.port_retries=0",  # docker publishes no other port
            "--ServerApp.open_browser=False",
            "--ServerApp.allow_unauthenticated_access=False",
            *QUIET,
            *jupyter_flags,
        ]
    )
    if server.identity_provider.token != os.environ[TOKEN]:
        fail(f"a configuration or a flag of Jupyter's sets another token than {TOKEN}")
    token_text = "<your JUPYTER_TOKEN>" if token else os.environ[TOKEN]
    host = "127.0.0.1" if options.ip in EVERY_ADDRESS else options.ip
    # Runs after the port is bound, which ends the server if it fails.
    address = f"REPL: http://{host}:{options.port}/lab?token={token_text}"
    server.io_loop.add_callback(print_status, address)
    server.start()


def port(text: str) -> int:
    """Return a port from a flag; 0, which stands for any free port, is not allowed."""
    if not 0 < int(text) < 1 << 16:
        raise ValueError
    return int(text)


def check_address(address: str) -> None:
    """Exit with an error if this computer does not have an address."""
    try:
        family, *_, place = socket.getaddrinfo(address, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind(place)
    except OSError as error:
        fail(f"--ip {address}: {error.strerror or error}")


def given_token(environment: Mapping[str, str]) -> str | None:
    """Return the user's token, or None if it is not set."""
    token = environment.get(TOKEN)
    if token is not None and not token.strip():
        fail(f"{TOKEN} is empty: set it to a secret, or unset it for a random one")
    return token


def fail(line: str) -> NoReturn:
    """Exit with an error message."""
    sys.exit(f"error: {line}")


def print_status(line: str) -> None:
    """Print a line on standard error, unbuffered."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
