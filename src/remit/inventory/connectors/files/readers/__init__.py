"""One file for each sort of file that is read; this list is the order in which they are asked."""

from __future__ import annotations

from remit.inventory.connectors.files.choose import Reader
from remit.inventory.connectors.files.readers import (
    agents,
    certificates,
    clients,
    cloud,
    databases,
    github_actions,
    gitlab_ci,
    kubeconfig,
    mcp,
    settings,
    ssh,
    workloads,
)

READERS: tuple[Reader, ...] = (
    ssh.AUTHORIZED,
    ssh.PUBLIC,
    certificates.PEM,
    certificates.PKCS12,
    certificates.JAVA,
    kubeconfig.KUBECONFIG,
    cloud.AWS,
    cloud.AZURE,
    mcp.MCP,
    *agents.READERS,
    *clients.READERS,
    *databases.READERS,
    cloud.GOOGLE,
    cloud.TOKENS,
    cloud.PLAIN,
    github_actions.ACTIONS,
    gitlab_ci.GITLAB,
    workloads.COMPOSE,
    workloads.SYSTEMD,
    settings.DOTENV,
    settings.SETTINGS,
    ssh.PRIVATE,
)
"""Every built-in reader. Where two could read a file, the first listed does."""
