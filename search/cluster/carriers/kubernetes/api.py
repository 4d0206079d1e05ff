"""What is asked of Kubernetes, as plain JSON over the connection that its Python client makes from a kubeconfig.

The client's own models are left alone: they refuse answers of servers that are newer or older than they are.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any
from urllib.parse import quote, urlencode

from search.cluster.base import ClusterError
from search.cluster.carriers.kubernetes.manifest import GROUP, PLURAL, VERSION

TIMEOUT = (10.0, 30.0)
"""Seconds to connect, and to wait for an answer."""
CHECKED = {"fieldValidation": "Strict"}
"""A misspelt key is refused; Kubernetes would drop it without a word."""
TRIED = {"dryRun": "All"}
"""Check everything, quotas and admission too, and make nothing."""
MERGE = "application/merge-patch+json"
ANSWERED, MISSING, CONFLICT = 300, 404, 409

_RAY = f"/apis/{GROUP}/{VERSION}"


class Refused(ClusterError):
    """Kubernetes has answered with an error, of HTTP status `status`."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Api:
    """One namespace of a Kubernetes cluster.

    Raises (every method):
        Refused: Kubernetes refuses, and says why.
        ClusterError: it cannot be reached, or nothing says where it is.
    """

    def __init__(self, context: str | None, namespace: str) -> None:
        """Connect at the first request."""
        self._context = context
        self.namespace = namespace

    @cached_property
    def _client(self) -> Any:
        return _client(self._context)

    @property
    def host(self) -> str:
        """The address of the API server."""
        return str(self._client.configuration.host)

    def version(self) -> str:
        """Return the server's version."""
        return str(self._ask("GET", "/version").get("gitVersion", "unknown"))

    def ray_kinds(self) -> set[str]:
        """Return the resources of KubeRay that the server knows; empty where it is not installed."""
        found = self._get(_RAY)
        return {kind["name"] for kind in found["resources"]} if found else set()

    def ray_job_schema(self) -> Mapping[str, Any] | None:
        """Return the schema of a RayJob; None where the server shows none."""
        try:
            schemas = (self._get(f"/openapi/v3{_RAY}") or {}).get("components", {}).get("schemas", {})
        except Refused:
            return None
        kinds = ((schema, schema.get("x-kubernetes-group-version-kind", [])) for schema in schemas.values())
        return next((schema for schema, names in kinds if any(name["kind"] == "RayJob" for name in names)), None)

    def allowed(self, verb: str, group: str, resource: str) -> bool:
        """Return whether this account may do something with a kind of resource in the namespace."""
        name, _, part = resource.partition("/")
        attributes = {"namespace": self.namespace, "verb": verb, "group": group, "resource": name, "subresource": part}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        answer = self._ask("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body=review)
        return bool(answer.get("status", {}).get("allowed"))

    def job(self, name: str) -> dict[str, Any] | None:
        """Return a RayJob; None where there is none."""
        return self._get(self._ray_jobs(name))

    def create_job(self, manifest: Mapping[str, Any], *, dry: bool = False) -> dict[str, Any]:
        """Create a RayJob, or only try it."""
        return self._ask("POST", self._ray_jobs(), CHECKED | (TRIED if dry else {}), manifest)

    def delete_job(self, name: str) -> None:
        """Delete a RayJob after all that it owns; one that is gone is not an error."""
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Foreground"}
        try:
            self._ask("DELETE", self._ray_jobs(name), body=options)
        except Refused as error:
            if error.status != MISSING:
                raise

    def put_config_map(self, manifest: Mapping[str, Any], *, dry: bool = False) -> None:
        """Create a ConfigMap, or replace the one of this name; or only try it."""
        query = CHECKED | (TRIED if dry else {})
        try:
            self._ask("POST", self._core("configmaps"), query, manifest)
        except Refused as error:
            if error.status != CONFLICT:
                raise
            self._ask("PUT", self._core("configmaps", manifest["metadata"]["name"]), query, manifest)

    def own_config_map(self, name: str, owner: Mapping[str, Any]) -> None:
        """Let a ConfigMap go with the RayJob that owns it."""
        metadata = owner["metadata"]
        reference = {"apiVersion": f"{GROUP}/{VERSION}", "kind": "RayJob", "name": metadata["name"]}
        patch = {"metadata": {"ownerReferences": [{**reference, "uid": metadata["uid"]}]}}
        self._ask("PATCH", self._core("configmaps", name), body=patch, kind=MERGE)

    def pods(self, ray_cluster: str) -> list[dict[str, Any]]:
        """Return the pods of a Ray cluster, the head first."""
        query = {"labelSelector": f"ray.io/cluster={ray_cluster}"}
        pods: list[dict[str, Any]] = self._ask("GET", self._core("pods"), query)["items"]
        return sorted(pods, key=lambda pod: pod["metadata"].get("labels", {}).get("ray.io/node-type") != "head")

    def warnings(self, name: str) -> list[dict[str, Any]]:
        """Return the warnings about an object, the oldest first."""
        query = {"fieldSelector": f"involvedObject.name={name},type=Warning"}
        events: list[dict[str, Any]] = self._ask("GET", self._core("events"), query)["items"]
        return sorted(events, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""))

    def log(self, pod: str, container: str) -> Iterator[str]:
        """Yield the lines that a container has printed."""
        query = {"container": container}
        text = self._send("GET", f"{self._core('pods', pod)}/log", query).decode(errors="replace")
        yield from text.splitlines()

    def _core(self, kind: str, name: str = "") -> str:
        return _path("/api/v1/namespaces", self.namespace, kind, name)

    def _ray_jobs(self, name: str = "") -> str:
        return _path(f"{_RAY}/namespaces", self.namespace, PLURAL, name)

    def _get(self, path: str) -> dict[str, Any] | None:
        try:
            return self._ask("GET", path)
        except Refused as error:
            if error.status == MISSING:
                return None
            raise

    def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        kind: str = "application/json",
    ) -> dict[str, Any]:
        answer = self._send(method, path, query, body, kind)
        try:
            found = json.loads(answer)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ClusterError(f"{self.host} does not answer as Kubernetes does; is it the address of its API server?")
        return found

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        kind: str = "application/json",
    ) -> bytes:
        import urllib3

        headers = {"Accept": "application/json", "Content-Type": kind, **_authorization(self._client.configuration)}
        try:
            answer = self._client.rest_client.pool_manager.request(
                method,
                f"{self.host}{path}{'?' if query else ''}{urlencode(query or {})}",
                body=None if body is None else json.dumps(body).encode(),
                headers=headers,
                timeout=urllib3.Timeout(*TIMEOUT),
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ClusterError(f"Kubernetes at {self.host} cannot be reached: {_cause(error)}") from error
        if answer.status >= ANSWERED:
            raise Refused(_words(answer.status, answer.data, self.namespace), answer.status)
        return bytes(answer.data)


def _client(context: str | None) -> Any:
    """Return the client of a context, or of the pod that this process runs in."""
    try:
        from kubernetes import client, config
    except ImportError:
        advice = "`pip install 'robustsearch[kubernetes]'`"
        raise ClusterError(f"the Python client of Kubernetes is not installed; run {advice}") from None
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # Its retries are nobody's business.
    configuration = client.Configuration()
    load_file: Any = config.load_kube_config
    named = os.environ.get("KUBECONFIG") or None  # The client reads it once, when it is imported.
    load_own: Any = config.load_incluster_config
    try:
        try:
            load_file(named, context=context, client_configuration=configuration)
        except config.ConfigException:
            if context is not None:
                raise
            load_own(client_configuration=configuration)
    except config.ConfigException as error:
        missing = f"no context {context!r}" if context is not None else "nothing that says where Kubernetes is"
        advice = "name a file with KUBECONFIG, and a context of it with `context` in the cluster file"
        raise ClusterError(f"{missing} ({error}); {advice}") from error
    return client.ApiClient(configuration)


def _authorization(configuration: Any) -> dict[str, str]:
    # Newer clients keep the token under another name than older ones; a certificate is the connection's.
    tokens = map(configuration.get_api_key_with_prefix, ("BearerToken", "authorization"))
    return next(({"Authorization": str(token)} for token in tokens if token), {})


def _path(*parts: str) -> str:
    root, *names = parts
    return "/".join([root, *(quote(name, safe="") for name in names if name)])


def _cause(error: BaseException) -> str:
    """Return the innermost reason of an error of the connection."""
    reason = getattr(error, "reason", None)
    return _cause(reason) if isinstance(reason, BaseException) else str(error).rpartition(">: ")[2] or repr(error)


def _words(status: int, data: bytes, namespace: str) -> str:
    """Say why Kubernetes refuses, by the status and the message of its answer."""
    try:
        found = json.loads(data)
        message = str(found["message"])
    except (ValueError, KeyError, TypeError):
        message = data.decode(errors="replace").strip()[:300] or "no reason given"
    if status == 401:
        return f"Kubernetes does not accept the credentials of the kubeconfig: {message}"
    if status == 403 and "exceeded quota" in message:
        return f"the quota of namespace {namespace} is exhausted: {message}"
    if status == 403:
        return f"this account may not do that in namespace {namespace}: {message}; docs/manual/kubernetes.md has a Role"
    if status == MISSING and "namespaces" in message:
        return f"there is no namespace {namespace}: {message}"
    if "unknown field" in message:
        return f"KubeRay here does not know a key of the RayJob (is it too old, or the overlay wrong?): {message}"
    return f"Kubernetes refuses: {message}"
