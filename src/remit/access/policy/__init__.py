"""Policy: Cedar, typed by a schema, compiled to Python, decided over an in-memory snapshot.

Reading order: `schema` (what policies can say) → `source`, `codegen`, `compile` (text to functions) → `facts` (what
policies see) → `decide` (the order of a decision) → `explain` and `lifecycle` (what people ask afterwards).
"""
