"""Run code in a kernel of a Jupyter server over HTTP and websocket: test_docker.py.

    python kernel_client.py http://127.0.0.1:3133 < code.py

The token is `JUPYTER_TOKEN`. Prints what the code printed; exits with 1 if it raised.
Runs in the environment of the server, whose own packages speak the protocol.
"""

from __future__ import annotations

import json
import os
import sys
import uuid

import requests
import websocket
from jupyter_client.session import Session

LONGEST = 300  # seconds between two messages of a kernel that trains


def run(server: str, token: str, code: str) -> tuple[str, str]:
    """Run code in a new kernel, then end the kernel.

    Returns:
        What it printed, and its traceback or nothing.
    """
    headers = {"Authorization": f"token {token}"}
    answer = requests.post(f"{server}/api/kernels", headers=headers, timeout=60)
    answer.raise_for_status()
    kernel = f"{server}/api/kernels/{answer.json()['id']}"
    socket = websocket.create_connection(
        kernel.replace("http", "ws", 1) + f"/channels?session_id={uuid.uuid4().hex}",
        header=headers,
        timeout=LONGEST,
    )
    try:
        return _execute(socket, code)
    finally:
        socket.close()
        requests.delete(kernel, headers=headers, timeout=60)


def _execute(socket: websocket.WebSocket, code: str) -> tuple[str, str]:
    """Send one request and read until its kernel is idle again."""
    content = {"code": code, "silent": False, "allow_stdin": False}
    asked = Session().msg("execute_request", content)
    socket.send(json.dumps({**asked, "channel": "shell"}, default=str))
    printed, trace = "", ""
    while True:
        message = json.loads(socket.recv())
        if message["parent_header"].get("msg_id") != asked["header"]["msg_id"]:
            continue
        kind, content = message["header"]["msg_type"], message["content"]
        if kind == "stream" and content["name"] == "stdout":
            printed += content["text"]
        elif kind == "error":
            trace = "\n".join(content["traceback"])
        elif kind == "status" and content["execution_state"] == "idle":
            return printed, trace


if __name__ == "__main__":
    out, error = run(sys.argv[1], os.environ["JUPYTER_TOKEN"], sys.stdin.read())
    sys.stdout.write(out)
    sys.exit(error or None)
