"""Measurements against other tools, each runnable with one command. Not collected as tests."""
