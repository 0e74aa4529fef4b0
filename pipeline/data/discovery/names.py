"""What names of files and folders tell: words, subsets, and whether images or masks are meant."""

from __future__ import annotations

import re

SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"),
    *(".npy", ".npz", ".dcm", ".jp2"),
)  # of files that may be images or masks
SUBSETS = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("valid", "val", "validation", "dev"), "valid"),
    **dict.fromkeys(("test", "testing"), "test"),
}
MASK_WORDS = frozenset(
    (
        *("mask", "masks", "label", "labels", "labelids", "annotation", "annotations", "annot", "segmentation"),
        *("segmentations", "seg", "gt", "truth", "groundtruth", "target", "targets", "matte", "trimap"),
    )
)
IMAGE_WORDS = frozenset(("image", "images", "img", "imgs", "photo", "photos", "picture", "scan", "scans", "dicom"))
SEPARATORS = ("_", "-", ".", "")  # between the parts of an id
SUBSET = "<>"  # in a pattern: the word of a subset
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_GLUED = re.compile(
    rf"({'|'.join(SUBSETS)})({'|'.join(sorted(MASK_WORDS | IMAGE_WORDS))})", re.IGNORECASE
)  # `trainannot`


def words_of(text: str) -> list[str]:
    """Returns the words of a name in lower case.

    >>> words_of("leftImg8bit"), words_of("JPEGImages"), words_of("train_v2")
    (['left', 'img', '8', 'bit'], ['jpeg', 'images'], ['train', 'v', '2'])
    """
    return [word.lower() for word in _WORD.findall(text)]


def role_of(name: str) -> str:
    """Returns what a name calls its files: "mask", "image" or "".

    >>> role_of("leftImg8bit"), role_of("inklabels"), role_of("image_masks"), role_of("aachen")
    ('image', 'mask', 'mask', '')
    """
    for word in words_of(name)[::-1]:
        if word in MASK_WORDS or any(word.endswith(own) for own in MASK_WORDS if len(own) > 4):
            return "mask"
        if word in IMAGE_WORDS:
            return "image"
    return ""


def split_subset(name: str) -> tuple[str, str, str]:
    """Returns a folder's name with SUBSET for the subset's word, the subset, and the word as spelled.

    >>> split_subset("dicom-images-train"), split_subset("Val"), split_subset("train_test"), split_subset("valannot")
    (('dicom-images-<>', 'train', 'train'), ('<>', 'valid', 'Val'), ('train_test', '', ''), ('<>annot', 'valid', 'val'))
    """
    found = [match for match in _WORD.finditer(name) if match[0].lower() in SUBSETS]
    if glued := _GLUED.fullmatch(name):
        return f"{SUBSET}{glued[2]}", SUBSETS[glued[1].lower()], glued[1]
    if len(found) != 1:
        return name, "", ""
    start, end = found[0].span()
    return f"{name[:start]}{SUBSET}{name[end:]}", SUBSETS[found[0][0].lower()], found[0][0]


def suffix_of(name: str) -> str:
    """Returns the suffix of a file's name; a hundred thousand times, so not by pathlib.

    >>> suffix_of("1.2.276.dcm"), suffix_of(".hidden"), suffix_of("a/b")
    ('.dcm', '', '')
    """
    name = name.rpartition("/")[2]
    start = name.rfind(".")
    return name[start:] if start > 0 else ""
