"""TOML tables, each row with its source, and their loader."""

from provision.catalog.load import catalog, chips, microarchitectures

__all__ = ["catalog", "chips", "microarchitectures"]
