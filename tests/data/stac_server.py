"""A STAC API on localhost: answers recorded requests as recorded, searches its own items, serves files by ranges."""

from __future__ import annotations

import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

CONFORMS = [
    "https://api.stacspec.org/v1.0.0/core",
    "https://api.stacspec.org/v1.0.0/item-search",
    "https://api.stacspec.org/v1.0.0/item-search#query",
]


def cassette(path):
    """The recorded (method, uri, body, answer) of a VCR file, bodies parsed."""
    import yaml

    recorded = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    for interaction in recorded["interactions"]:
        request, body = interaction["request"], interaction["response"]["body"]["string"]
        question = json.loads(request["body"]) if request["body"] else None
        yield request["method"], request["uri"], question, json.loads(body)


def matches(item, question):
    west, south, east, north = item["bbox"][:2] + item["bbox"][-2:]
    lon, lat = question["intersects"]["coordinates"]
    cloud = question.get("query", {}).get("eo:cloud_cover", {}).get("lte", 100)
    return (
        item["collection"] in question["collections"]
        and (west <= lon <= east if west <= east else lon >= west or lon <= east)
        and south <= lat <= north
        and item["properties"].get("eo:cloud_cover", 100) <= cloud
    )


@contextmanager
def serve(items=(), *, folder=None, recorded=(), page=2, broken=False):
    """Yield (url, log of (method, path, question)); `folder` is served under /files/, `recorded` answers come first."""
    log = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, code, body, kind="application/geo+json", headers=()):
            self.send_response(code)
            for key, value in (("Content-Type", kind), ("Content-Length", str(len(body))), *headers):
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def url(self):
            return f"http://127.0.0.1:{self.server.server_port}"

        def replay(self, question):
            for method, uri, asked, answer in recorded:
                home = re.match(r"(https://[^/]+(?:/api/stac)?/v1)", uri)[1]
                if (method, uri[len(home) :] or "/", asked) == (self.command, self.path, question):
                    self.answer(200, json.dumps(answer).replace(home, self.url()).encode())
                    return True
            return False

        def do_HEAD(self):
            self.do_GET()

        def do_GET(self):
            log.append((self.command, self.path, None))
            if self.path.startswith("/files/"):
                return self.file(Path(folder) / self.path.removeprefix("/files/"))
            if not self.replay(None):
                links = [
                    {"rel": "self", "href": self.url()},
                    {"rel": "root", "href": self.url()},
                    {"rel": "search", "href": f"{self.url()}/search", "method": "POST", "type": "application/geo+json"},
                ]
                catalogue = {"type": "Catalog", "stac_version": "1.0.0", "id": "local", "description": "local"}
                self.answer(200, json.dumps(catalogue | {"conformsTo": CONFORMS, "links": links}).encode())
            return None

        def file(self, path):
            if not path.is_file():
                return self.answer(404, b"")
            body = path.read_bytes()
            if match := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
                first, last = int(match[1]), min(int(match[2] or len(body) - 1), len(body) - 1)
                extent = ("Content-Range", f"bytes {first}-{last}/{len(body)}")
                return self.answer(206, body[first : last + 1], "image/tiff", [extent])
            return self.answer(200, body, "image/tiff", [("Accept-Ranges", "bytes")])

        def do_POST(self):
            question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            log.append(("POST", self.path, question))
            if broken:
                return self.answer(400, b'{"code": "BadRequest", "description": "no such collection"}')
            if self.replay(question):
                return None
            found = [json.loads(json.dumps(item).replace("{server}", self.url())) for item in items]
            found = [item for item in found if matches(item, question)]
            first = int(question.get("token", 0))
            answer = {"type": "FeatureCollection", "features": found[first : first + page], "links": []}
            if first + page < len(found):
                link = {"rel": "next", "href": f"{self.url()}/search", "method": "POST"}
                answer["links"] = [link | {"body": question | {"token": first + page}}]
            return self.answer(200, json.dumps(answer).encode())

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", log
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
