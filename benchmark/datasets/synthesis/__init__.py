"""Synthetic patients: their anatomy, CT and MR images, the motion between both scans, and drawn labels."""
