"""What part does a file play? By its path alone: production code, a test, an example, a lock file …"""

from __future__ import annotations

import functools
import re
from enum import StrEnum


class Role(StrEnum):
    """What a file is for."""

    PLAIN = "plain"
    SETTINGS = "settings"
    TEST = "test"
    EXAMPLE = "example"
    DOCUMENT = "document"
    LOCK = "lock"
    GENERATED = "generated"
    CODE = "code"


_LOCK = re.compile(
    r"(?:package-lock\.json|npm-shrinkwrap\.json|yarn\.lock|pnpm-lock\.ya?ml|go\.sum|go\.work\.sum|cargo\.lock|poetry\.lock|uv\.lock|"
    r"pipfile\.lock|composer\.lock|gemfile\.lock|flake\.lock|mix\.lock|podfile\.lock|packages\.lock\.json|pdm\.lock|bun\.lock|"
    r"deno\.lock|gradle\.lockfile|verification-metadata\.xml|\.terraform\.lock\.hcl|requirements[^/]*\.lock|sha\d+sums?(?:\.txt)?|dist-info/record)$"
)
_GENERATED = re.compile(
    r"\.min\.(?:js|css)$|\.map$|\.bundle\.js$|/(?:node_modules|vendor|third_party|dist)/|\.(?:svg|ipynb_checkpoints|woff2?)$"
)
_TEST = re.compile(
    r"(?:^|[/_.\-!])(?:tests?|testing|testdata|specs?|fixtures?|mocks?|__tests__|e2e|unittests?|cassettes)(?:[/_.\-]|$)"
)
_EXAMPLE = re.compile(
    r"(?:^|[/_.\-!])(?:examples?|samples?|demos?|templates?|tutorials?|dist|defaults?|stubs?)(?:[/_.\-]|$)"
)
_DOCUMENT = re.compile(
    r"(?:^|/)docs?/|\.(?:md|rst|adoc|txt|html?|tex|pod|mdx)$|(?:^|/)(?:readme|changelog|license|contributing)[^/]*$"
)
_CODE = re.compile(
    r"\.(?:pyi?|pyx|js|mjs|cjs|jsx|ts|tsx|mts|vue|svelte|go|java|kts?|scala|groovy|c|cc|cpp|cxx|h|hh|hpp|cs|vb|rs|rb|php|swift|mm?|"
    r"dart|lua|pl|pm|r|jl|ex|exs|erl|hs|clj|fs|nim|zig|sol|d|pas|f90|cr)$"
)
_SETTINGS = re.compile(
    r"(?:^|[/.!])(?:env|npmrc|pypirc|netrc|pgpass|htpasswd|credentials|secrets?|config|settings)(?:[/.\-_]|$)|"
    r"\.(?:env|ini|cfg|conf|properties|ya?ml|toml|json|tfvars|tfstate|xml|config|plist)$"
)


@functools.lru_cache(maxsize=4096)
def role_of(path: str) -> Role:
    """The part that the file at `path` plays."""
    lower = path.lower()[-512:]
    for role, pattern in (
        (Role.LOCK, _LOCK),
        (Role.GENERATED, _GENERATED),
        (Role.CODE, _CODE),
        (Role.TEST, _TEST),
        (Role.EXAMPLE, _EXAMPLE),
        (Role.DOCUMENT, _DOCUMENT),
        (Role.SETTINGS, _SETTINGS),
    ):
        if pattern.search(lower):
            return role
    return Role.PLAIN
