"""Small makers of syntax-tree nodes, for `codegen`."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any


def name_of(name: str) -> ast.expr:
    return ast.Name(name, ast.Load())


def attribute_of(node: ast.expr, name: str) -> ast.expr:
    return ast.Attribute(node, name, ast.Load())


def item_of(node: ast.expr, index: ast.expr) -> ast.expr:
    return ast.Subscript(node, index, ast.Load())


def call_of(function: Callable[..., Any], *arguments: ast.expr) -> ast.expr:
    return ast.Call(name_of(function.__name__), list(arguments), [])


def compare(left: ast.expr, operator: ast.cmpop, right: ast.expr) -> ast.expr:
    return ast.Compare(left, [operator], [right])


def is_exactly(node: ast.expr, kind: str) -> ast.expr:
    return compare(ast.Call(name_of("type"), [node], []), ast.Is(), name_of(kind))


def all_of(terms: list[ast.expr]) -> ast.expr:
    if not terms:
        return ast.Constant(True)
    return terms[0] if len(terms) == 1 else ast.BoolOp(ast.And(), terms)
