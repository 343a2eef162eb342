"""Run code in a kernel of a Jupyter server over HTTP and websocket: test_docker.py.

    python kernel_client.py http://127.0.0.1:3133 < code.py

The token is `JUPYTER_TOKEN`. Prints the output of the code; exits with 1 if it raised.
Runs in the environment of the server, which has the packages for the protocol.
"""

from __future__ import annotations

import json
import os
import sys
import uuid

import requests
import websocket
from jupyter_client.session import Session

TIMEOUT_S = 300  # between two messages of a kernel that trains


def run(server: str, token: str, code: str) -> tuple[str, str]:
    """Run code in a new kernel, then delete the kernel.

    Returns:
        Its standard output, and its traceback or an empty string.
    """
    headers = {"Authorization": f"token {token}"}
    response = requests.post(f"{server}/api/kernels", headers=headers, timeout=60)
    response.raise_for_status()
    kernel = f"{server}/api/kernels/{response.json()['id']}"
    socket = websocket.create_connection(
        kernel.replace("http", "ws", 1) + f"/channels?session_id={uuid.uuid4().hex}",
        header=headers,
        timeout=TIMEOUT_S,
    )
    try:
        return _execute(socket, code)
    finally:
        socket.close()
        requests.delete(kernel, headers=headers, timeout=60)


def _execute(socket: websocket.WebSocket, code: str) -> tuple[str, str]:
    """Send one request, and read messages until the kernel is idle again."""
    content = {"code": code, "silent": False, "allow_stdin": False}
    request = Session().msg("execute_request", content)
    socket.send(json.dumps({**request, "channel": "shell"}, default=str))
    output, trace = "", ""
    while True:
        message = json.loads(socket.recv())
        if message["parent_header"].get("msg_id") != request["header"]["msg_id"]:
            continue
        kind, content = message["header"]["msg_type"], message["content"]
        if kind == "stream" and content["name"] == "stdout":
            output += content["text"]
        elif kind == "error":
            trace = "\n".join(content["traceback"])
        elif kind == "status" and content["execution_state"] == "idle":
            return output, trace


if __name__ == "__main__":
    out, error = run(sys.argv[1], os.environ["JUPYTER_TOKEN"], sys.stdin.read())
    sys.stdout.write(out)
    sys.exit(error or None)
