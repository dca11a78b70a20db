"""A forward and reverse HTTP proxy for programs that cannot be changed: each request decided, credentials injected.

Reading order: `head` and `body` (HTTP/1.1, read strictly) → `table` (what requests are) → `peers` (who connected) →
`desk` (asking the control plane; `counter` is its other side, inside the control plane) → `plan` (what goes on) →
`exchange` and `tunnel` (passing bytes) → `redact` (what must not come back) → `door` (listeners) → `run`.
"""
