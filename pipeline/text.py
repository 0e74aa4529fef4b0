"""Numbers as text, for the log and the report."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Returns a duration in its two largest units.

    >>> duration(3725), duration(65), duration(3.21)
    ('1 h 2 min', '1 min 5 s', '3.2 s')
    """
    minutes, hours = int(seconds // 60), int(seconds // 3600)
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min {int(seconds % 60)} s" if minutes else f"{seconds:.1f} s"
