"""A Kubernetes API server on loopback, with etcd behind it: no node, so that objects are judged and no pod runs."""

import secrets
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import yaml
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from tests.otlp.receivers import wait_until
from tests.programs import program

# Whatever asks for less than this level is refused or warned of, in every namespace.
LEVEL = "restricted"
# Kinds of operators that the chart knows; here they take anything.
CUSTOM = {
    "ServiceMonitor": "monitoring.coreos.com/v1",
    "PodMonitor": "monitoring.coreos.com/v1",
    "PrometheusRule": "monitoring.coreos.com/v1",
    "VerticalPodAutoscaler": "autoscaling.k8s.io/v1",
}


class Cluster(NamedTuple):
    kubeconfig: Path
    http: httpx.Client

    def make_namespace(self, name: str) -> None:
        self.http.post("/api/v1/namespaces", json={"metadata": {"name": name}}).raise_for_status()

    def try_pod(self, namespace: str, metadata: dict[str, Any], spec: dict[str, Any]) -> httpx.Response:
        """Return what the API server says to a pod, without keeping it."""
        pod = {"metadata": {**metadata, "generateName": "tried-"}, "spec": spec}
        return self.http.post(f"/api/v1/namespaces/{namespace}/pods", params={"dryRun": "All"}, json=pod)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@contextmanager
def running(log: Path, *command: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen([str(part) for part in command], stdout=output, stderr=output)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    etcd, apiserver = program("etcd"), program("kube-apiserver")
    store, peer, port, token = free_port(), free_port(), free_port(), secrets.token_hex(16)
    urls = [f"http://127.0.0.1:{each}" for each in (store, peer)]
    (folder / "tokens.csv").write_text(f'{token},admin,admin,"system:masters"\n')
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    (folder / "sa.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / "sa.pub").write_bytes(public)
    defaults = {"enforce": LEVEL, "enforce-version": "latest", "warn": LEVEL, "warn-version": "latest"}
    security = {
        "apiVersion": "pod-security.admission.config.k8s.io/v1",
        "kind": "PodSecurityConfiguration",
        "defaults": defaults,
    }
    admission = {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AdmissionConfiguration",
        "plugins": [{"name": "PodSecurity", "configuration": security}],
    }
    (folder / "admission.yaml").write_text(yaml.safe_dump(admission))
    with ExitStack() as stack:
        stack.enter_context(
            running(
                folder / "etcd.log",
                etcd,
                f"--data-dir={folder / 'etcd'}",
                f"--listen-client-urls={urls[0]}",
                f"--advertise-client-urls={urls[0]}",
                f"--listen-peer-urls={urls[1]}",
                f"--initial-advertise-peer-urls={urls[1]}",
                f"--initial-cluster=default={urls[1]}",
                "--unsafe-no-fsync",
            )
        )
        server = stack.enter_context(
            running(
                folder / "apiserver.log",
                apiserver,
                f"--etcd-servers={urls[0]}",
                "--bind-address=127.0.0.1",
                "--advertise-address=127.0.0.1",
                "--endpoint-reconciler-type=none",  # others would refuse loopback
                f"--secure-port={port}",
                f"--cert-dir={folder / 'certificates'}",
                f"--token-auth-file={folder / 'tokens.csv'}",
                "--authorization-mode=RBAC",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-key-file={folder / 'sa.pub'}",
                f"--service-account-signing-key-file={folder / 'sa.key'}",
                "--disable-admission-plugins=ServiceAccount",  # nobody here makes the account that it wants
                f"--admission-control-config-file={folder / 'admission.yaml'}",
                "--service-cluster-ip-range=10.96.0.0/16",
            )
        )
        http = stack.enter_context(
            httpx.Client(
                base_url=f"https://127.0.0.1:{port}",
                headers={"authorization": f"Bearer {token}"},
                verify=False,
                trust_env=False,
                timeout=30,
            )
        )
        wait_until(lambda: is_ready(http) or server.poll() is not None, 120, every=0.5)
        assert server.poll() is None, (folder / "apiserver.log").read_text()[-2000:]
        for kind, version in CUSTOM.items():
            defined = http.post(
                "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", json=definition(kind, version)
            )
            defined.raise_for_status()
        wait_until(lambda: all(is_served(http, *each) for each in CUSTOM.items()), 60, every=0.5)
        yield Cluster(kubeconfig(folder, port, token), http)


def is_ready(http: httpx.Client) -> bool:
    try:
        return http.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def is_served(http: httpx.Client, kind: str, version: str) -> bool:
    answer = http.get(f"/apis/{version}")
    return answer.status_code == 200 and any(each["kind"] == kind for each in answer.json()["resources"])


def definition(kind: str, version: str) -> dict[str, Any]:
    group, _, name = version.partition("/")
    plural = f"{kind.lower()}s"
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return {
        "metadata": {
            "name": f"{plural}.{group}",
            "annotations": {"api-approved.kubernetes.io": "unapproved, for a test"},
        },
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural},
            "versions": [{"name": name, "served": True, "storage": True, "schema": schema}],
        },
    }


def kubeconfig(folder: Path, port: int, token: str) -> Path:
    file = folder / "kubeconfig"
    server = {"server": f"https://127.0.0.1:{port}", "insecure-skip-tls-verify": True}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [{"name": "here", "cluster": server}],
        "users": [{"name": "admin", "user": {"token": token}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "admin"}}],
    }
    file.write_text(yaml.safe_dump(content))
    file.chmod(0o600)
    return file
