"""An update of the weights, and how a training takes one after the other: each anew, or on a GPU from a record of the first ones."""
