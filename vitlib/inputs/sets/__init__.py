"""Sets of pictures, each by where it comes from: scikit-learn's digits, folders, torchvision's sets, the Hugging Face hub's."""
