"""Directories of people: a file, or SCIM."""

from __future__ import annotations
