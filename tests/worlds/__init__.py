"""Hand-made hosts and a small catalog, for tests that must not move when the real tables do."""
