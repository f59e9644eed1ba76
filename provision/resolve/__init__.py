"""Facts and request to stack and plan. Pure."""
