"""A semantic-segmentation competition pipeline: from raw images to a checked submission. Start at `stages.py`."""
