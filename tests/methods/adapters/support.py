"""What tests of adapters share."""

STARTS = ["zero_b", "random", "svd", "svd_shift"]
