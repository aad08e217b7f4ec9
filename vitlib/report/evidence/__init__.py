"""Evidence for a claim: paired differences by seed and image, their interval, the correction for many claims, and power."""
