"""The model that a run leaves behind: how timm builds it (forms.py), what is measured of it (measured.py), and how (compute.py)."""
