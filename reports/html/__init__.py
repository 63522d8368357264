"""The HTML report: one self-contained file, opened from disk, without a network.

page.py puts it together from page.html, page.css and the scripts; data.py and sprites.py make what is embedded.
"""
