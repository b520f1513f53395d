"""Readings of GPUs and host, package versions, and the doctor."""
