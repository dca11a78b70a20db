"""How clients find their certificate: files in PEM, the configuration of curl, and what libpq reads."""

from __future__ import annotations

from collections.abc import Mapping

from remit.access.brokers.presentation import DIRECTORY, Credential, Presentation
from remit.providers.x509.certificates import client_key, private_pem

_OURS = ("REMIT_X509_URL", "REMIT_X509_CERT", "REMIT_X509_KEY", "REMIT_X509_CA", "REMIT_X509_CURL")
_LIBPQ = (
    *("PGHOST", "PGHOSTADDR", "PGPORT", "PGUSER", "PGDATABASE", "PGPASSWORD", "PGPASSFILE", "PGSERVICE"),
    *("PGSSLMODE", "PGSSLCERT", "PGSSLKEY", "PGSSLROOTCERT", "PGREQUIRESSL"),
)


def shown(credential: Credential) -> Presentation:
    """Certificate, key and the server's authority; none of the variables holds a secret."""
    settings = credential.settings
    name = f"{credential.target}-{credential.role}"
    files = {
        f"{name}.crt": settings.get("certificate", ""),
        f"{name}.key": private_pem(client_key(credential.secret)),
    }
    pointers = {"REMIT_X509_CERT": f"{name}.crt", "REMIT_X509_KEY": f"{name}.key"}
    if ca := settings.get("ca"):
        files[f"{name}.ca.pem"] = ca
        pointers["REMIT_X509_CA"] = f"{name}.ca.pem"
    if settings.get("server") == "postgresql":
        return _for_libpq(settings, name, files, pointers)
    files[f"{name}.curl"] = "".join(
        f'{key} = "{DIRECTORY}/{file}"\n'
        for key, file in (("cert", f"{name}.crt"), ("key", f"{name}.key"), ("cacert", f"{name}.ca.pem"))
        if file in files
    )
    return Presentation(
        variables={"REMIT_X509_URL": settings.get("url", "")},
        files=files,
        pointers={**pointers, "REMIT_X509_CURL": f"{name}.curl"},
        stale=_OURS,
    )


def _for_libpq(
    settings: Mapping[str, str], name: str, files: Mapping[str, str], pointers: Mapping[str, str]
) -> Presentation:
    roots = {"PGSSLROOTCERT": f"{name}.ca.pem"} if f"{name}.ca.pem" in files else {}
    return Presentation(
        variables={
            "PGHOST": settings.get("host", ""),
            "PGPORT": settings.get("port", ""),
            "PGUSER": settings.get("user", ""),
            "PGDATABASE": settings.get("dbname", ""),
            "PGSSLMODE": "verify-full",
            # libpq 16 and later; those before look for ~/.postgresql/root.crt.
            **({} if roots else {"PGSSLROOTCERT": "system"}),
        },
        files=files,
        pointers={**pointers, **roots, "PGSSLCERT": f"{name}.crt", "PGSSLKEY": f"{name}.key"},
        stale=(*_OURS, *_LIBPQ),
    )
