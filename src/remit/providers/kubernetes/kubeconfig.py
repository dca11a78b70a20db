"""A kubeconfig, or a pod's own account → where the API server is and what proves who asks.

Programs that a kubeconfig names (`exec`) are never run: a file that is read for an inventory must not start anything.

Spec: Kubernetes documentation, "kubeconfig (v1)"; "Accessing the Kubernetes API from a Pod".
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from remit.kernel.errors import Misconfigured
from remit.providers.kubernetes.reader import Login

_MAX_BYTES: Final = 1 << 20
_POD: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def is_kubeconfig(path: Path) -> bool:
    """Whether a file is a kubeconfig rather than a manifest."""
    try:
        if not path.is_file() or path.stat().st_size > _MAX_BYTES:
            return False
        return b"kind: Config" in (data := path.read_bytes()) and b"clusters:" in data and b"users:" in data
    except OSError:
        return False


def usual_login(environment: Mapping[str, str], *, pod: Path = _POD) -> Login | Path:
    """What `kubectl` would use: `KUBECONFIG`, a pod's own account, or the file in the home directory."""
    if named := environment.get("KUBECONFIG", "").partition(os.pathsep)[0]:
        return Path(named)
    host, port = environment.get("KUBERNETES_SERVICE_HOST", ""), environment.get("KUBERNETES_SERVICE_PORT", "443")
    if host and (pod / "token").is_file():
        where = f"[{host}]" if ":" in host else host
        return Login(
            url=f"https://{where}:{port}", ca=_text(pod / "ca.crt", "ca"), token=_text(pod / "token", "token").strip()
        )
    return Path(environment.get("HOME", "/")) / ".kube" / "config"


def read_kubeconfig(path: Path, *, context: str = "", token: str = "") -> Login:
    """The login of one context, the current one unless named; `token` goes before the file's own proof.

    Raises `Misconfigured` (`providers.kubernetes.kubeconfig`).
    """
    root = _parsed(path)
    wanted = context or _str(root.get("current-context"))
    chosen = _named(root, "contexts", "context", wanted)
    cluster = _named(root, "clusters", "cluster", _str(chosen.get("cluster")))
    user = _named(root, "users", "user", _str(chosen.get("user")))
    url = _str(cluster.get("server"))
    if not url:
        raise _unfit(path, f"it has no context `{wanted[:60]}` with a server", "name one with `--set context=NAME`")
    if cluster.get("insecure-skip-tls-verify") is True:
        raise _unfit(path, "it switches verification of the server off", "give it `certificate-authority-data`")
    base = path.parent
    proof = token or _str(user.get("token")) or _token_file(path, user).strip()
    identity = b"" if proof else (_block(base, user, "client-key") + _block(base, user, "client-certificate"))
    if not proof and not identity:
        raise _unfit(
            path,
            "its user has neither token nor client certificate" + (" (programs are not run)" if "exec" in user else ""),
            "make one with `kubectl create token ACCOUNT`, and give it by `--secret-stdin`",
        )
    return Login(url=url, ca=_block(base, cluster, "certificate-authority").decode(), token=proof, identity=identity)


def _parsed(path: Path) -> Mapping[str, Any]:
    import yaml

    try:
        if path.stat().st_size > _MAX_BYTES:
            raise _unfit(path, "it is larger than 1 MiB", "name a kubeconfig")
        root = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise _unfit(path, error.strerror or "unreadable", "name a file that this user can read") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise _unfit(path, "it is not YAML", "name a kubeconfig") from None
    return root if isinstance(root, dict) else {}


def _named(root: Mapping[str, Any], many: str, one: str, wanted: str) -> Mapping[str, Any]:
    for entry in root.get(many) or ():
        if isinstance(entry, dict) and entry.get("name") == wanted and isinstance(entry.get(one), dict):
            found: Mapping[str, Any] = entry[one]
            return found
    return {}


def _block(base: Path, where: Mapping[str, Any], key: str) -> bytes:
    """PEM that stands in the file itself, or in the file that it names."""
    if inline := _str(where.get(f"{key}-data")):
        try:
            return base64.b64decode(inline)
        except ValueError:
            raise _unfit(base, f"its `{key}-data` is not base64", "write it again") from None
    return _file(base, where, key).encode()


def _token_file(path: Path, user: Mapping[str, Any]) -> str:
    """The token in a file that lies where the kubeconfig does, or is a pod's own.

    Whoever wrote the kubeconfig chose the server too: a file of anywhere else would be sent there.
    """
    named = _str(user.get("tokenFile"))
    if not named:
        return ""
    where = (path.parent / named).resolve()
    if not any(where.is_relative_to(each) for each in (path.parent.resolve(), _POD, Path("/run/secrets"))):
        raise _unfit(
            path, "its `tokenFile` lies elsewhere, and would be sent to the server that it names",
            "if you trust it, give the token yourself by `--secret-stdin`",
        )  # fmt: skip
    return _text(where, "tokenFile")


def _file(base: Path, where: Mapping[str, Any], key: str) -> str:
    named = _str(where.get(key))
    return _text(base / named, key) if named else ""


def _text(path: Path, what: str) -> str:
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            return (file.read(_MAX_BYTES) or b"").decode()
    except (OSError, UnicodeDecodeError):
        raise _unfit(path, f"its `{what}` cannot be read", "name a file that this user can read") from None


def _str(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _unfit(path: Path, what: str, next_step: str) -> Misconfigured:
    return Misconfigured(
        "providers.kubernetes.kubeconfig",
        f"the kubeconfig `{str(path)[:200]}` does not do: {what}",
        next_step=next_step,
    )
