"""The edges: processes, hosts, Ansible, Docker, files."""
