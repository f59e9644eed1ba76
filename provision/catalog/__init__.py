"""TOML tables, each row with its source, and their loader."""

from provision.catalog.load import chips

__all__ = ["chips"]
