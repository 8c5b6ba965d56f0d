"""A server that speaks enough of the Hub's protocol for the real client: create, commit, download."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_" + "t" * 34


@dataclass
class Repository:
    """Branches, each a name with its commit; commits, each an id with all its files."""

    private: bool = False
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def files(self, revision: str = "main") -> dict[str, bytes]:
        return self.commits[self.branches.get(revision, revision)]

    def commit(self, branch: str, files: dict[str, bytes]) -> str:
        content = repr([sorted(files.items()), len(self.commits)]).encode()
        self.branches[branch] = hashlib.sha1(content).hexdigest()
        self.commits[self.branches[branch]] = files
        return self.branches[branch]


class Hub:
    """What the server holds and was asked.

    Attributes:
        repositories: by `owner/name`, Spaces by `spaces/owner/name`.
        large: contents of large files by their sha256, also of commits that never came.
        requests: (method, path) of each request.
        refuse: given method and path, the status to answer with instead, or 0 to cut the connection.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.large: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.refuse: Callable[[str, str], int | None] = lambda method, path: None
        self.endpoint = ""

    def sent(self, method: str, part: str) -> int:
        """How many requests had this method, and this part in their path."""
        return sum(one == method and part in path for one, path in self.requests)


@contextmanager
def running_hub() -> Iterator[Hub]:
    """A server on a free port, until the block ends."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        hub.endpoint = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def handle_any(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path))
        status = self.hub.refuse(self.command, path)
        if status == 0:
            self.close_connection = True
            return
        if status is not None:
            self.answer({"error": "refused by the test"}, status)
            return
        if self.command == "POST" and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.answer({"error": "Invalid username or password."}, 401)
            return
        for method, pattern, answer in _ROUTES:
            match = re.fullmatch(pattern, path)
            if match and self.command in method.split("|"):
                answer(self, *match.groups())
                return
        self.answer({"error": f"no such route: {self.command} {path}"}, 404)

    do_GET = do_HEAD = do_POST = do_PUT = handle_any

    def answer(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def repository(self, name: str) -> Repository | None:
        repository = self.hub.repositories.get(name)
        allowed = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if repository is None or (repository.private and not allowed):
            self.answer({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
            return None
        return repository

    def create(self) -> None:
        asked = json.loads(self.body)
        kind = "spaces/" if asked.get("type") == "space" else ""
        name = f"{kind}{asked.get('organization') or 'me'}/{asked['name']}"
        url = f"{self.hub.endpoint}/{name}"
        if name in self.hub.repositories:
            self.answer({"error": "You already created this model repo", "url": url}, 409)
            return
        self.hub.repositories[name] = Repository(private=asked.get("visibility") == "private")
        self.hub.repositories[name].commit("main", {".gitattributes": b""})
        self.answer({"url": url, "name": name, "id": name})

    def branch(self, name: str, branch: str) -> None:
        if (repository := self.repository(name)) is None:
            return
        if branch in repository.branches:
            self.answer({"error": "Reference already exists"}, 409)
            return
        repository.branches[branch] = repository.branches["main"]
        self.answer({})

    def preupload(self, name: str, revision: str) -> None:
        if (repository := self.repository(name)) is None:
            return
        held = repository.files(revision)
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith((".safetensors", ".png")) else "regular",
                "shouldIgnore": False,
                "oid": _git_oid(held[file["path"]]) if file["path"] in held else None,
            }
            for file in json.loads(self.body)["files"]
        ]
        self.answer({"files": files})

    def batch(self, name: str) -> None:
        objects = []
        for one in json.loads(self.body)["objects"]:
            upload = {"upload": {"href": f"{self.hub.endpoint}/large/{one['oid']}"}}
            objects.append({**one, **({} if one["oid"] in self.hub.large else {"actions": upload})})
        self.answer({"transfer": "basic", "objects": objects})

    def store(self, oid: str) -> None:
        assert hashlib.sha256(self.body).hexdigest() == oid
        self.hub.large[oid] = self.body
        self.answer({})

    def commit(self, name: str, branch: str) -> None:
        if (repository := self.repository(name)) is None:
            return
        files = dict(repository.files(branch))
        for line in self.body.splitlines():
            item = json.loads(line)
            if item["key"] == "file":
                files[item["value"]["path"]] = base64.b64decode(item["value"]["content"])
            elif item["key"] == "lfsFile":
                files[item["value"]["path"]] = self.hub.large[item["value"]["oid"]]
            elif item["key"] == "deletedFile":
                del files[item["value"]["path"]]
        oid = repository.commit(branch, files)
        url = f"{self.hub.endpoint}/{name}/commit/{oid}"
        self.answer({"success": True, "commitOid": oid, "commitUrl": url, "hookOutput": ""})

    def info(self, name: str, revision: str = "main") -> None:
        if (repository := self.repository(name)) is None:
            return
        sha = repository.branches.get(revision, revision)
        siblings = [{"rfilename": path} for path in repository.files(revision)]
        self.answer({"id": name, "modelId": name, "sha": sha, "siblings": siblings, "tags": []})

    def tree(self, name: str, revision: str) -> None:
        if (repository := self.repository(name)) is None:
            return
        files = repository.files(revision)
        self.answer([
            {"type": "file", "path": path, "size": len(content), "oid": _git_oid(content)}
            for path, content in files.items()
        ])  # fmt: skip

    def file(self, name: str, revision: str, path: str) -> None:
        if (repository := self.repository(name)) is None:
            return
        sha = repository.branches.get(revision, revision)
        if sha not in repository.commits:
            self.answer({"error": "Invalid rev id"}, 404, {"X-Error-Code": "RevisionNotFound"})
            return
        content = repository.commits[sha].get(path)
        if content is None:
            missing = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": sha}
            self.answer({"error": "Entry not found"}, 404, missing)
            return
        self.answer(content, headers={"X-Repo-Commit": sha, "ETag": f'"{_git_oid(content)}"'})

    def validate(self) -> None:
        self.answer({"errors": [], "warnings": []})


def _git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


_NAME = r"((?:spaces/)?[\w.-]+/[\w.-]+)"
# A Space is named with its kind everywhere, a model only here.
_API = f"/api/(?:models/)?{_NAME}"
_ROUTES: list[tuple[str, str, Callable[..., None]]] = [
    ("POST", "/api/repos/create", _Handler.create),
    ("POST", "/api/validate-yaml", _Handler.validate),
    ("POST", f"{_API}/branch/(.+)", _Handler.branch),
    ("POST", f"{_API}/preupload/(.+)", _Handler.preupload),
    ("POST", f"{_API}/commit/(.+)", _Handler.commit),
    ("GET", _API, _Handler.info),
    ("GET", f"{_API}/revision/(.+)", _Handler.info),
    ("GET", f"{_API}/tree/([^/]+)", _Handler.tree),
    ("POST", f"/{_NAME}\\.git/info/lfs/objects/batch", _Handler.batch),
    ("PUT", "/large/(.+)", _Handler.store),
    ("GET|HEAD", f"/{_NAME}/resolve/([^/]+)/(.+)", _Handler.file),
]
