"""Readings to facts. Pure."""
