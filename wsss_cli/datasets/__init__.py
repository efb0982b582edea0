"""Data sets on disk as records, and records as training samples."""
