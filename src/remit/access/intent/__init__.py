"""What an agent's task may do, call by call: declared, signed by a person, and decided without asking any model.

Reading order: `model` (the words) → `document` (an intent as a person writes it) → `constraint` and `pattern` (what an
argument may be) → `origin` (where a value came from) → `decide` (one call) → `attenuate` (a sub-agent may only less) →
`registry` (asking, approving, sessions) → `ports`.

Spec: CaMeL (arXiv:2503.18813) and Progent (arXiv:2504.11703) for the idea; OWASP ASI01, ASI02.
"""
