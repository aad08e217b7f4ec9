"""Whether a store is whole: everything in it is read, and what is not as it should be is named and, if asked for, mended."""
