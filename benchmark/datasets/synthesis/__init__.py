"""Synthetic patients: anatomy, its CT and MR, the motion between them, and the labels drawn on them."""
