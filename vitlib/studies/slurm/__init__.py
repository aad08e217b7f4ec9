"""Job scripts for Slurm: an array of drivers on one store, sized by `plan`."""
