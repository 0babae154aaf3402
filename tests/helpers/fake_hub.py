"""A hub on loopback that takes commits, for what is pushed by the library of Hugging Face."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

OID = "0" * 40


@dataclass
class FakeHub:
    """What the hub was asked and given.

    Attributes:
        tokens: of the requests.
        created: contents of the requests that create a repository.
        files: path in the repository -> content.
    """

    address: str = ""
    tokens: set[str | None] = field(default_factory=set)
    created: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)


@contextmanager
def running_hub() -> Iterator[FakeHub]:
    """Serve until the block ends."""
    hub = FakeHub()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            hub.tokens.add(self.headers["Authorization"])
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            if self.path == "/api/repos/create":
                content = json.loads(body)
                hub.created.append(content)
                self._reply({"url": f"{hub.address}/{content['organization']}/{content['name']}"})
            elif self.path == "/api/validate-yaml":
                self._reply({"errors": [], "warnings": []})
            elif self.path == "/api/models/me/birds/preupload/main":
                files = [
                    {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for file in json.loads(body)["files"]
                ]
                self._reply({"files": files})
            elif self.path == "/api/models/me/birds/commit/main":
                for line in map(json.loads, body.splitlines()):
                    if line["key"] == "file":
                        content = base64.b64decode(line["value"]["content"])
                        hub.files[line["value"]["path"]] = content
                url = f"{hub.address}/me/birds/commit/{OID}"
                self._reply({"commitOid": OID, "commitUrl": url})
            else:
                self._reply({"error": f"no {self.path} here"}, 404)

        def do_GET(self) -> None:
            self._reply({"error": f"no {self.path} here"}, 404)

        def do_HEAD(self) -> None:
            self.send_error(404)

        def _reply(self, content: object, status: int = 200) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Be silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
