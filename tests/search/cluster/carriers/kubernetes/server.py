"""A small stand-in for the API server of Kubernetes, over HTTP: what the kind asks of one, with its errors.

It holds RayJobs and ConfigMaps, checks RayJobs strictly against the part of KubeRay's schema that is used, and does
nothing by itself: a test plays KubeRay's operator with `status`, `pods` and `warn`.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from search.files.yaml import dump_yaml
from tests.search.cluster.carriers.kubernetes.kuberay import checker, used

TOKEN = "token-of-ada"
_OBJECT = re.compile(
    r"/(?:api/v1|apis/ray\.io/v1)/namespaces/([^/]+)/(configmaps|rayjobs|pods|events)(?:/([^/]+))?(/log)?"
)


class Answer(Exception):
    """An error of the server."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class Server:
    """The state of the cluster, what it refuses, and what it was asked.

    `release` is KubeRay's, None where it is not installed; `shows_schema` whether the server tells its schema.
    """

    release: str | None = "1.6"
    shows_schema: bool = True
    namespaces: tuple[str, ...] = ("default", "research")
    denied: set[tuple[str, str]] = field(default_factory=set)
    quota: str = ""
    looks_until_gone: int = 0
    objects: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)
    pods: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    logs: dict[tuple[str, str], str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    url: str = ""
    made: int = 0

    def job(self) -> dict[str, Any]:
        """Return the only RayJob."""
        (job,) = (found for (kind, *_), found in self.objects.items() if kind == "rayjobs")
        return job

    def names(self) -> set[str]:
        """Return `kind/name` of all objects."""
        return {f"{kind}/{name}" for kind, _, name in self.objects}

    def status(self, deployed: str, **fields: Any) -> None:
        """Set the status of the only RayJob, as KubeRay's operator does."""
        self.job()["status"] = {"jobDeploymentStatus": deployed, "rayClusterName": "cluster-abc12", **fields}

    def warn(self, name: str, reason: str, message: str) -> None:
        """Add a warning about an object."""
        self.events.append({"involvedObject": {"name": name}, "type": "Warning", "reason": reason, "message": message})

    def pod(self, kind: str = "worker", group: str = "workers", **status: Any) -> None:
        """Add a pod of the Ray cluster."""
        labels = {"ray.io/cluster": "cluster-abc12", "ray.io/node-type": kind, "ray.io/group": group}
        name = f"cluster-abc12-{kind}-{len(self.pods)}"
        self.pods.append({"metadata": {"name": name, "labels": labels}, "status": {"phase": "Pending", **status}})

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> Any:
        """Return the answer to a request.

        Raises:
            Answer: the request is refused.
        """
        if path == "/version":
            return {"gitVersion": "v1.34.1"}
        if path == "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews":
            asked = body["spec"]["resourceAttributes"]
            resource = "/".join(filter(None, (asked["resource"], asked["subresource"])))
            return {"status": {"allowed": (asked["verb"], resource) not in self.denied}}
        if path == "/apis/ray.io/v1" and self.release:
            return {"resources": [{"name": "rayclusters"}, {"name": "rayjobs"}]}
        if path == "/openapi/v3/apis/ray.io/v1" and self.release and self.shows_schema:
            kinds = [{"group": "ray.io", "kind": "RayJob", "version": "v1"}]
            schema = {**used(self.release), "x-kubernetes-group-version-kind": kinds}
            return {"components": {"schemas": {"io.ray.v1.RayJob": schema, "io.k8s.meta.v1.Status": {}}}}
        if found := _OBJECT.fullmatch(path):
            return self._object(method, *found.groups(), query, body)  # type: ignore[arg-type]
        raise Answer(404, "the server could not find the requested resource")

    def _object(
        self,
        method: str,
        namespace: str,
        kind: str,
        name: str | None,
        log: str | None,
        query: dict[str, str],
        body: Any,
    ) -> Any:
        verb = {"POST": "create", "PUT": "update"}.get(method, method.lower())
        verb = "list" if verb == "get" and not name else verb
        if (verb, f"{kind}{log or ''}") in self.denied:
            raise Answer(403, f'{kind} is forbidden: User "ada" cannot {verb} resource "{kind}" in "{namespace}"')
        if log:
            return self.logs[str(name), query["container"]]
        if kind == "pods":
            cluster = query["labelSelector"].removeprefix("ray.io/cluster=")
            return {"items": [pod for pod in self.pods if pod["metadata"]["labels"]["ray.io/cluster"] == cluster]}
        if kind == "events":
            asked = dict(part.split("=") for part in query["fieldSelector"].split(","))
            return {"items": [e for e in self.events if e["involvedObject"]["name"] == asked["involvedObject.name"]]}
        if method == "POST":
            return self._create(namespace, kind, query, body)
        if (kind, namespace, str(name)) not in self.objects:
            raise Answer(404, f'{kind} "{name}" not found')
        return self._change(method, (kind, namespace, str(name)), query, body)

    def _create(self, namespace: str, kind: str, query: dict[str, str], body: Any) -> Any:
        name = body["metadata"]["name"]
        if namespace not in self.namespaces:
            raise Answer(404, f'namespaces "{namespace}" not found')
        if self.quota:
            raise Answer(403, f'{kind} "{name}" is forbidden: exceeded quota: {self.quota}')
        if kind == "rayjobs" and query.get("fieldValidation") == "Strict":
            for error in checker(used(self.release or "")).iter_errors(body):
                where = ".".join(map(str, error.absolute_path))
                raise Answer(400, f'strict decoding error: unknown field "{where}": {error.message}')
        if (kind, namespace, name) in self.objects:
            raise Answer(409, f'{kind} "{name}" already exists')
        if query.get("dryRun") == "All":
            return body
        self.made += 1
        made = {**body, "metadata": {**body["metadata"], "uid": f"uid-{self.made}"}}
        self.objects[kind, namespace, name] = made
        return made

    def _change(self, method: str, key: tuple[str, str, str], query: dict[str, str], body: Any) -> Any:
        found = self.objects[key]
        if method == "GET" and "deletionTimestamp" in found["metadata"]:
            self.looks_until_gone -= 1
            if self.looks_until_gone < 0:
                self._collect(key)
                raise Answer(404, f"{key[0]} {key[2]!r} not found")
        elif method == "DELETE":
            assert body["propagationPolicy"] == "Foreground"
            found["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        elif method == "PATCH":
            found["metadata"].update(body["metadata"])
        elif method == "PUT" and query.get("dryRun") != "All":
            found.update({**body, "metadata": {**body["metadata"], "uid": found["metadata"]["uid"]}})
        return found

    def _collect(self, key: tuple[str, str, str]) -> None:
        """Remove an object and what it owns."""
        gone = self.objects.pop(key)["metadata"]["uid"]
        for other, held in list(self.objects.items()):
            if any(owner["uid"] == gone for owner in held["metadata"].get("ownerReferences", ())):
                del self.objects[other]


class _Handler(BaseHTTPRequestHandler):
    served: Server

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        split = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(split.query).items()}
        self.served.asked.append(f"{self.command} {split.path}{' (dry)' if 'dryRun' in query else ''}")
        try:
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                raise Answer(401, "Unauthorized")
            answer, code = self.served.answer(self.command, split.path, query, body), 200
        except Answer as error:
            code, answer = error.code, {"kind": "Status", "code": error.code, "message": str(error)}
        data = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def serving(kubeconfig: Path, token: str = TOKEN) -> Iterator[Server]:
    """Serve on the loopback address, and write a kubeconfig with the contexts `ada` and `research` that leads there."""
    server = Server()
    handler = type("Handler", (_Handler,), {"served": server})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        server.url = f"http://127.0.0.1:{http.server_port}"
        contexts = [{"name": name, "context": {"cluster": "c", "user": "ada"}} for name in ("ada", "research")]
        written = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": server.url}}],
            "users": [{"name": "ada", "user": {"token": token}}],
            "contexts": contexts,
            "current-context": "ada",
        }
        kubeconfig.write_text(dump_yaml(written))
        try:
            yield server
        finally:
            http.shutdown()
