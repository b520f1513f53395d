"""Runs as files and processes: the journal, launching, supervising, control."""
