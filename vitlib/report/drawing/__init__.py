"""What figures are drawn with: the looks of the methods, labels, statistical plots, and a reader of what is drawn."""
