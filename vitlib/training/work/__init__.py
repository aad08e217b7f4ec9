"""What runs do, in numbers that follow from their specs: layers by formula, passes over images, epochs. Imports no torch."""
