"""Seeds."""

import secrets

_seed = [None]


def set_random_seed(seed):
    _seed[0] = int(seed)


def next_seed():
    """Of weights, shuffling and dropout of the next network: a new one each time, the same after the same seed."""
    if _seed[0] is None:
        return secrets.randbits(64)
    _seed[0] += 1
    return _seed[0] - 1
