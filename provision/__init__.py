"""provision: turns a bare Linux box into a deep-learning box that has been proved to work."""

__version__ = "0.1.0"
