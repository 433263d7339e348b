"""What is the same for every use of a device: launching kernels, precision."""
