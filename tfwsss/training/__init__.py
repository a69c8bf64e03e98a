"""The training loop and what it is made of: optimiser, losses, devices, processes that train together."""
