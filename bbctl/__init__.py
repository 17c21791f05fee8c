"""Keeps Backbeat alive: the command line, host operations, the practice lab."""
