"""The decision listener: AuthZEN over TCP and a Unix socket, apart from the control plane's application.

Reading order: `callers` (who asks) → `wire` (HTTP/1.1 by hand) → `listener` (bounds, fairness, the sockets).
"""
