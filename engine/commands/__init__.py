"""The bodies of the command line's verbs, one module a group; imported when their verb runs."""
