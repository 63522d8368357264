"""Lists of patients in train, val and test, as JSON files; `benchmark/datasets/splits.py` describes their schema.

The folder is a package so that an installed rigidbench has the files too.
"""

from pathlib import Path

FOLDER = Path(__file__).parent
