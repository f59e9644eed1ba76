"""Frozen values: what passes between the stages."""
