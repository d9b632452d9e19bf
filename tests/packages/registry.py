#!/usr/bin/env python3
"""An npm registry on loopback that serves tarballs: registry.py FOLDER PORT_FILE

FOLDER contains `*.tgz`, read anew for each request, so that a test can publish a new version by copying a file. The
port is written to PORT_FILE. Other paths are files of FOLDER, so that it also serves archives.
"""

import base64
import hashlib
import http.server
import io
import json
import os
import sys
import tarfile
import urllib.parse


def packages(folder):
    """Returns the tarballs by name and version."""
    found = {}
    for file in sorted(os.listdir(folder)):
        if not file.endswith(".tgz"):
            continue
        with open(os.path.join(folder, file), "rb") as tarball:
            content = tarball.read()
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            manifest = json.load(tar.extractfile("package/package.json"))
        manifest["dist"] = {
            "integrity": "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode(),
            "shasum": hashlib.sha1(content).hexdigest(),
            "file": file,
        }
        found.setdefault(manifest["name"], {})[manifest["version"]] = manifest
    return found


class Registry(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        name = urllib.parse.unquote(self.path).strip("/")
        versions = packages(self.directory).get(name)
        if versions is None:
            super().do_GET()
            return
        for manifest in versions.values():
            host = self.headers["Host"]
            manifest["dist"]["tarball"] = f"http://{host}/{manifest['dist']['file']}"
        latest = max(versions, key=lambda it: [int(part) for part in it.split(".")])
        answer = {"name": name, "dist-tags": {"latest": latest}, "versions": versions}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


def main():
    folder, port_file = sys.argv[1:]
    handler = lambda *arguments: Registry(*arguments, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    with open(port_file + ".new", "w") as file:
        file.write(str(server.server_port))
    os.rename(port_file + ".new", port_file)
    server.serve_forever()


main()
