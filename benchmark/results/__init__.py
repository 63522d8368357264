"""The run folder: its tables and their columns, its lock, the slices for pictures, and estimates of time."""
