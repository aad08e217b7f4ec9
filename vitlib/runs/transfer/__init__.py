"""Results and teachers on their way elsewhere: archives, and weights that the package carries."""
