"""A `kaggle` package that cannot be imported, in subprocesses of the tests: absent, or old and without credentials."""

import os

MOOD = os.environ["STAND_IN_MOOD"]
if MOOD == "not installed":
    raise ImportError("No module named 'kaggle'")
if MOOD == "old":
    raise OSError("Could not find kaggle.json. Make sure it's located in ~/.kaggle. Or use the environment method.")
if MOOD == "older":
    raise ValueError("Error: Missing username in configuration.")
if MOOD == "exits":
    print("Could not find kaggle.json")
    raise SystemExit(1)
