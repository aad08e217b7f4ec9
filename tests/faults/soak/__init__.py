"""Hours of trouble on one store."""
