"""Plan and report to text, JSON and HTML. Pure."""
