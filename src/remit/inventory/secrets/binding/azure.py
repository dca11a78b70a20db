"""Azure: an application by the ids beside its secret, a storage account by its connection string, a grant by its SAS.

Spec: Microsoft "Configure Azure Storage connection strings", "Create a service SAS", "Create a user delegation SAS".
"""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

from remit.inventory.model import Attribute, CredentialKind
from remit.inventory.secrets.binding.model import Binding, Reached, Seen, moment, subject
from remit.kernel.ids import name

_GUID = r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"
_SECRET = re.compile(r"[\w~.-]{3}\dQ~[\w~.-]{31,34}")
_TENANT = re.compile(rf"tenant(?:_?id)?\b[\"']?\s*[:=]\s*[\"']?({_GUID})", re.IGNORECASE)
_CLIENT = re.compile(rf"(?:client|app(?:lication)?)_?(?:id)\b[\"']?\s*[:=]\s*[\"']?({_GUID})", re.IGNORECASE)
_SETTING = re.compile(
    r"\b(AccountName|AccountKey|Endpoint|SharedAccessKeyName|SharedAccessKey|HostName|EntityPath)=([^;\s\"']+)"
)
_KEY = re.compile(r"[A-Za-z0-9+/]{42,86}={0,2}")
_STORE_HOST = re.compile(r"([a-z0-9]{3,24})\.(blob|file|queue|table|dfs)\.core\.windows\.net")
_CASK = re.compile(r"JQQJ9|AZFUNC|AZEu|APIM|ACDb|\+ASt|\+AEh|\+ASb|\+ARm|AIoT|AzSe|\+ACR")


def bind(seen: Seen) -> Binding | None:
    """A client secret, a shared key in its connection string, a shared access signature."""
    value = seen.value
    if _SECRET.fullmatch(value) or ("azure" in seen.hit.rule and seen.part("client_id")):
        return _application(seen)
    if "sig=" in value and re.search(r"\bs[evpr]=", value):
        return _signature(value)
    if "AccountKey=" in value or "SharedAccessKey=" in value:
        return _connection(dict(_SETTING.findall(value)))
    if _KEY.fullmatch(value) and ("AccountKey=" in seen.around or "SharedAccessKey=" in seen.around):
        return _around(seen, value)
    return None


def _application(seen: Seen) -> Binding:
    tenant = _first(_TENANT, seen.part("tenant", "tenant_id"), seen.around)
    client = _first(_CLIENT, seen.part("client_id", "app_id"), seen.around)
    who = None
    if client:
        who = subject(
            "azure", tenant or "unknown", "application", client,
            title=f"application {client}", attributes={"tenant": tenant},
        )  # fmt: skip
    return Binding(
        provider="azure",
        method="client id beside the secret" if client else "form",
        what="Azure client secret",
        kind=CredentialKind.SECRET,
        subject=who,
        attributes={"tenant": tenant, "client_id": client},
    )


def _first(pattern: re.Pattern[str], named: str, text: str) -> str:
    if re.fullmatch(_GUID, named):
        return named.lower()
    found = pattern.search(text)
    return found.group(1).lower() if found else ""


def _around(seen: Seen, value: str) -> Binding | None:
    """The connection string in which the key stands: the line round it."""
    at = seen.around.find(value)
    line = seen.around[max(0, at - 400) : at + len(value) + 400]
    before, after = line.partition(value)[0], line.partition(value)[2]
    text = re.split(r"[\n\"']", before)[-1] + value + re.split(r"[\n\"']", after)[0]
    return _connection(dict(_SETTING.findall(text)))


def _connection(given: dict[str, str]) -> Binding | None:
    if account := given.get("AccountName", ""):
        return Binding(
            provider="azure",
            method="account name beside the key",
            what=f"key of storage account {account[:24]}",
            kind=CredentialKind.ACCESS_KEY,
            secret=given["AccountKey"].encode() if "AccountKey" in given else None,
            subject=subject("azure", "storage", "account", account, title=f"storage account {account}"),
            reached=_storage(account),
            attributes=_cask(given.get("AccountKey", "")) | {"account": account},
        )
    if rule := given.get("SharedAccessKeyName", ""):
        host = (urlsplit(given.get("Endpoint", "")).hostname or given.get("HostName", "unknown")).lower()
        return Binding(
            provider="azure",
            method="policy beside the key",
            what=f"shared access key {rule[:60]} of {host[:100]}",
            kind=CredentialKind.ACCESS_KEY,
            secret=given["SharedAccessKey"].encode() if "SharedAccessKey" in given else None,
            subject=subject("azure", host, "shared-access-policy", rule, title=f"{rule} at {host}"),
            reached=(Reached(name=name("azure", host, "namespace", host), kind="service-bus", title=host),),
            attributes=_cask(given.get("SharedAccessKey", "")) | {"policy": rule, "host": host},
        )
    return None


def _storage(account: str) -> tuple[Reached, ...]:
    return (Reached(name=name("azure", "storage", "store", account), kind="storage-account", title=account[:60]),)


def _cask(key: str) -> dict[str, Attribute]:
    """Keys made since 2021 carry a mark of Microsoft's common annotated form."""
    return {"form": "annotated"} if _CASK.search(key) else {}


def _signature(value: str) -> Binding:
    split = urlsplit(value if "://" in value else "https://unknown/?" + value.lstrip("?"))
    given = {key: items[0] for key, items in parse_qs(split.query, max_num_fields=50).items()}
    host = (split.hostname or "").lower()
    account = found.group(1) if (found := _STORE_HOST.fullmatch(host)) else ""
    delegated = given.get("skoid", "")
    who = None
    if delegated:
        who = subject(
            "azure", given.get("sktid", "unknown"), "object", delegated,
            title=f"object {delegated}", attributes={"tenant": given.get("sktid", "")},
        )  # fmt: skip
    elif account:
        who = subject("azure", "storage", "account", account, title=f"storage account {account}")
    return Binding(
        provider="azure",
        method="the signature's own parameters",
        what="Azure shared access signature",
        kind=CredentialKind.TOKEN,
        subject=who,
        reached=_storage(account) if account else (),
        issued=moment(given.get("st")),
        expires=moment(given.get("se")),
        clear=(host, delegated, given.get("sktid", ""), given.get("si", ""), given.get("sip", "")),
        attributes={
            "permissions": given.get("sp", ""),
            "addresses": given.get("sip", ""),
            "resource_kind": given.get("sr", "") or given.get("srt", ""),
            "stored_policy": given.get("si", ""),
            "class": "user-delegation" if delegated else "service",
            "account": account,
        },
    )
