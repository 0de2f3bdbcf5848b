"""What is trained, with no word about processes: programs, their parameters, kernels and optimizers."""
