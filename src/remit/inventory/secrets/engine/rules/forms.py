"""Values that the form of a file gives away: the column of a table, the lines of a block, the argument of a command."""

from __future__ import annotations

from remit.inventory.model import CredentialKind
from remit.inventory.secrets.engine.rule import Rule

_PASSWORD = CredentialKind.PASSWORD
_SECRET = CredentialKind.SECRET
_TELLING = r"(?=[^\s\"'<,;]{0,60}[0-9!@#%^&*])"
_COLUMN = r"(?:password|passwd|pwd|secret|api_?key)"
_WHO = r"(?:user(?:_?name)?|login|e-?mail|account|name)"
_LDAP = r"ldap(?:search|modify|add|delete|whoami|passwd|compare|modrdn)\s[^\n|;]{0,160}[ \t]-w[ \t]?"

RULES: tuple[Rule, ...] = (
    Rule(
        id="table-last-column",
        title="Password in the last column of a table",
        kind=_PASSWORD,
        signal=rf"[,;\t]\"?{_COLUMN}\"?\r?\n[^\n]{{1,300}}",
        confirm=rf"[,;\t]\"?{_COLUMN}\"?\r?\n[^\n]{{1,200}}[,;\t]\"?{_TELLING}(?P<secret>[^\s,;\"'<>$]{{5,100}})\"?\r?(?:\n|$)",
        keywords=("password", "passwd", "pwd", "secret", "key"),
        alphabet="",
        prior=76,
        entropy=0,
        ignore_case=True,
        multiline=True,
    ),
    Rule(
        id="table-second-column",
        title="Password in the second column of a table",
        kind=_PASSWORD,
        signal=rf"{_WHO}\"?[,;\t]\"?{_COLUMN}\"?[,;\t][^\n]{{0,200}}\n[^\n,;\t]{{1,80}}[,;\t]",
        confirm=rf"{_WHO}\"?[,;\t]\"?{_COLUMN}\"?[,;\t][^\n]{{0,200}}\n[^\n,;\t]{{1,80}}[,;\t]\"?{_TELLING}(?P<secret>[^\s,;\"'<>$]{{5,100}})\"?[,;\t]",
        keywords=("password", "passwd", "pwd", "secret", "key"),
        alphabet="",
        prior=76,
        entropy=0,
        ignore_case=True,
        multiline=True,
    ),
    Rule(
        id="property-element",
        title="Value of a named property of XML",
        kind=_SECRET,
        signal=r"name=[\"'][\w.\-]{0,40}(?:password|passphrase|passwd|secret|token|api-?key|accesskey)[\w.\-]{0,20}[\"']>\s{0,40}<value>[^<\s$]{5}",
        confirm=r"name=[\"'][\w.\-]{0,40}(?:password|passphrase|passwd|secret|token|api-?key|accesskey)[\w.\-]{0,20}[\"']>\s{0,40}<value>(?P<secret>[^<\s$]{5,200})</",
        keywords=("<value>",),
        alphabet="",
        prior=80,
        entropy=0,
        ignore_case=True,
    ),
    Rule(
        id="openvpn-login",
        title="Password in a profile of OpenVPN",
        kind=_PASSWORD,
        signal=r"<auth-user-pass>\s{1,4}[^\s<]{1,80}\s{1,4}[^\s<]{4}",
        confirm=r"<auth-user-pass>\s{1,4}(?P<user>[^\s<]{1,80})\s{1,4}(?P<secret>[^\s<]{4,100})\s{1,4}</auth-user-pass>",
        keywords=("<auth-user-pass>",),
        alphabet="",
        prior=90,
        entropy=0,
    ),
    Rule(
        id="directory-password",
        title="Password on a command line of a directory's client",
        kind=_PASSWORD,
        signal=_LDAP + r"[\"']?[^\s\"'$<-]{4}",
        confirm=_LDAP + r"[\"']?(?P<secret>[^\s\"'$<-][^\s\"']{3,100})",
        keywords=("ldap",),
        alphabet="",
        prior=82,
        entropy=0,
    ),
    Rule(
        id="htpasswd-password",
        title="Password on the command line of htpasswd",
        kind=_PASSWORD,
        signal=r"htpasswd -[a-zA-Z]{0,4}b[a-zA-Z]{0,4} [^\n|;$]{1,120} [^\s\"'$<-]{4}",
        confirm=r"htpasswd -[a-zA-Z]{0,4}b[a-zA-Z]{0,4} [^\s$]{1,100} (?P<user>[^\s$]{1,60}) [\"']?(?P<secret>[^\s\"'$<-][^\s\"']{3,100})",
        keywords=("htpasswd -",),
        alphabet="",
        prior=82,
        entropy=0,
    ),
    Rule(
        id="robot-password",
        title="Password that a test types into a form",
        kind=_PASSWORD,
        signal=r"Input Password[ \t]{2,8}[^\s]{1,80}[ \t]{2,8}[^\s$]{5}",
        confirm=r"Input Password[ \t]{2,8}[^\s]{1,80}[ \t]{2,8}(?P<secret>[^\s$]{5,100})",
        keywords=("input password",),
        alphabet="",
        prior=72,
        entropy=0,
    ),
    Rule(
        id="characters-of-password",
        title="Password of a key store in the code",
        kind=_PASSWORD,
        signal=r"(?:load|store|getKey|setKeyEntry|PBEKeySpec|PasswordProtection|PasswordAuthentication|init)\([^\n\"]{0,80}\"[^\"\n $]{5,64}\"\.toCharArray\(",
        confirm=rf"(?:load|store|getKey|setKeyEntry|PBEKeySpec|PasswordProtection|PasswordAuthentication|init)\([^\n\"]{{0,80}}\"{_TELLING}(?P<secret>[^\"\n $]{{5,64}})\"\.toCharArray\(",
        keywords=("tochararray",),
        alphabet="",
        prior=78,
        entropy=0,
    ),
    Rule(
        id="wallet-mnemonic",
        title="Words from which a wallet is restored",
        kind=_SECRET,
        signal=r"(?:mnemonic|(?:seed|recovery)[_ -]?phrase|seed[_ -]?words)[\"'`]?\s{0,3}[:=]\s{0,3}[\"'`]?(?:[a-z]{3,8} ){11}[a-z]{3}",
        confirm=r"(?:mnemonic|(?:seed|recovery)[_ -]?phrase|seed[_ -]?words)[\"'`]?\s{0,3}[:=]\s{0,3}[\"'`]?(?!test test test)(?P<secret>(?:[a-z]{3,8} ){11,23}[a-z]{3,8})[\"'`\s]",
        keywords=("mnemonic", "phrase", "words"),
        alphabet="",
        prior=80,
        entropy=0,
        ignore_case=True,
    ),
    Rule(
        id="wallet-accounts",
        title="Private key of a wallet",
        kind=CredentialKind.PRIVATE_KEY,
        signal=r"accounts[\"']?\s{0,3}:\s{0,3}\[\s{0,8}[`\"'](?:0x)?[a-fA-F0-9]{64}",
        confirm=r"accounts[\"']?\s{0,3}:\s{0,3}\[\s{0,8}[`\"'](?P<secret>(?:0x)?[a-fA-F0-9]{64})[`\"']",
        keywords=("accounts",),
        alphabet="",
        prior=84,
    ),
    Rule(
        id="kubernetes-secret-value",
        title="Value of a Kubernetes secret",
        kind=_SECRET,
        signal=r"kind: ?[\"']?Secret[\"']?\r?\n",
        confirm=(
            r"kind: ?[\"']?Secret[\"']?\r?\n(?:(?!---)[^\n]{0,300}\n){0,20}?data:[ \t]*\r?\n(?:[ \t]*#[^\n]{0,200}\n){0,5}"
            r"(?:[ \t]+[\w.\-]{1,80}:[ \t]*LS0tLS1CRUdJTiBDRVJU[^\n]*\n){0,3}"
            r"[ \t]+[\w.\-]{1,80}:[ \t]*[\"']?(?!LS0tLS1CRUdJTiBDRVJU)(?P<secret>[A-Za-z0-9+/]{8,4000}={0,2})[\"']?[ \t]*(?:\r?\n|$)"
        ),
        keywords=("secret",),
        alphabet="",
        prior=74,
        multiline=True,
    ),
)
