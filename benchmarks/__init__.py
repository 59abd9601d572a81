"""What the controller costs, measured on this machine in one run: ``make bench``."""
