"""How do proxies and clusters that people already run ask for decisions?

One desk behind three doors: HTTP (Envoy ext_authz, nginx `auth_request`, Traefik forwardAuth), gRPC (Envoy ext_authz)
and the Kubernetes authorization webhook. Who asks is a registered enforcement point, proved by its connection; what a
request is, its route table says; who sent the request, a proof says. Whatever is none of this is refused.

Reading order: `tables` (what an operator configures) → `forwarded` (the request, as each proxy tells it) → `subjects`
(who sent it) → `desk` (the decision) → `http`, `ext_authz`, `kubernetes` (the doors) → `serve` (the sockets).
"""
