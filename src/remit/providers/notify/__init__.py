"""Messages to people: chat, e-mail, webhooks, by the channels that the operator names."""

from __future__ import annotations

from remit.providers.notify.channels import Channel, Messenger, read_channels

__all__ = ["Channel", "Messenger", "read_channels"]
