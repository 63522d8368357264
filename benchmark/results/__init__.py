"""The run folder: what is stored, who may write it, and what is kept for pictures."""
