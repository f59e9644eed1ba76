"""Real hosts for tests: a Docker engine, Debian images made from the machine's own mirror, and SSH fleets.

Nothing here knows about provision: it only starts what a test needs and takes it away again.
"""
