"""NVML played: a libnvidia-ml.so.1 with NVML's own entry points, answering from a text file."""
