"""A real, small actuator as a process of its own: counts what it did, by key, and survives its clients.

`python actuator.py STATE_FILE` prints its port. State: {"effects": [keys in order], "version": "v2"}.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

STATE = Path(sys.argv[1])


class Handler(BaseHTTPRequestHandler):
    def _answer(self, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        self._answer({**json.loads(STATE.read_text()), "desired": 1})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        state = json.loads(STATE.read_text())
        # No dedup here on purpose: a second call shows up as a second effect.
        state["effects"].append(body["key"])
        verb = self.path.rsplit("/", 1)[-1]
        state["version"] = {"rollback": "v1", "rollforward": "v2"}.get(verb, state["version"])
        STATE.write_text(json.dumps(state))
        self._answer({"effect": f"{verb} done", "changed": True})

    def log_message(self, *args: object) -> None:
        return None


if __name__ == "__main__":
    STATE.write_text(json.dumps({"effects": [], "version": "v2"}))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()
