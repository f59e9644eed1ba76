"""Programs of the machine made of files: see __main__.py."""
