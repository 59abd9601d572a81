"""batch-job-controller: an exactly-once job controller for AWS Batch."""

__version__ = "0.1.0"
