"""``max_waiting: auto`` against fixed depths: the real application on the simulated AWS, whose compute is finite."""
