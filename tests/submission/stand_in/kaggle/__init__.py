"""Stands in for the `kaggle` package in subprocesses of the tests; old clients look for credentials when imported."""

import os

if os.environ.get("STAND_IN_MOOD") == "old":
    raise OSError("Could not find kaggle.json. Make sure it's located in ~/.kaggle. Or use the environment method.")
if os.environ.get("STAND_IN_MOOD") == "older":
    raise ValueError("Error: Missing username in configuration.")
if os.environ.get("STAND_IN_MOOD") == "exits":
    print("Could not find kaggle.json")
    raise SystemExit(1)
