"""Enforcement points (PEPs): who may ask for decisions about others, what of, and what each can still do itself.

Reading order: `model` (a registered point, and who asks) → `registry` (registering, in the ledger) → `asking` (what
an asker may ask, and which of its facts count) → `ports` (what serves decisions to them).

Spec: OpenID AuthZEN Authorization API 1.0, §2; NIST SP 800-207, §3.
"""
