"""Facts and a request to a stack and its plan. Pure: the catalog is an argument, no host is touched."""

from provision.resolve.overrides import with_overrides
from provision.resolve.plan import plan_for

__all__ = ["plan_for", "with_overrides"]
