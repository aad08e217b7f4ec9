"""Executors: one driver that hands out runs, and the pools that compute them, found by name."""
