"""Runs on a Ray cluster: its nodes need no disk in common, and only the driver writes to the store."""
