"""The HTML report: one self-contained file, opened from disk, without a network.

page.py renders it from page.html, page.css and the scripts; data.py and sprites.py make the embedded values.
"""
