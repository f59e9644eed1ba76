"""TOML tables, each row with its source, and their loader."""
