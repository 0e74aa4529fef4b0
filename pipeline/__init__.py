"""A semantic-segmentation competition pipeline: from raw pictures to a checked submission. Start at `stages.py`."""
