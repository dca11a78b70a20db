"""The inventory in the forms that others read: CSV for people, OCSF for lakes, OpenGraph for BloodHound. Pure."""

from __future__ import annotations
