"""Computing the runs that are missing, and keeping results."""
