"""What can be wrong with a competition folder: a table of kinds, and how problems are shown.

Every kind has what is expected and how to fix it. All kinds are errors: a file whose meaning is in doubt is refused,
because a wrong guess costs a training run and shows only in the score.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

_AGAIN = "copy or download the file again"
_RGB = "rewrite it: Image.open(path).convert('RGB').save(path, quality=95)"
_RGB_IMAGE = "8-bit RGB"
_FORMATS = "an image as JPEG, PNG, WebP, BMP, GIF, TIFF, JPEG 2000, npy, npz or DICOM"
_MASK_FORMATS = "a mask as PNG, GIF, TIFF, BMP, WebP, npy or npz"
_LISTED = "put the file there, or remove its row from the list"
_SAME_NAME = "exactly the name at the left, including letter case, spaces and Unicode form"
_RENAME = "rename it, or correct the id in the list"
_MASK = "one value per pixel, not a colour: a class index, or a value that MASK_VALUES lists"
_CSV = "save it as a plain CSV: UTF-8, commas, one header line"
_LINE = "correct that line by hand"
_SAMPLE = "get the sample submission and test.csv again, together"
_DESCRIPTOR = "configs/competitions/{competition}.yaml"
_NAME_IT = f"give its name as {{key}} in {_DESCRIPTOR}"
_BOX = f"correct it, or write BAD_BOXES: skip under BOXES in {_DESCRIPTOR} to drop and count such boxes"

# kind: (expected, fix). {fields} are filled in by the check that finds the problem.
# fmt: off
KINDS: dict[str, tuple[str, str]] = {
    # Lists: train.csv, test.csv, the sample submission
    "list missing": ("{file} beside the image folders", f"{_NAME_IT}; null takes every file of the image folder"),
    "csv missing": ("{file} in the competition's folder", _NAME_IT),
    "no image found": ("a file for every image", f"correct the template or the folder: {{key}} in {_DESCRIPTOR}"),
    "list unreadable": ("a file that this user may read", "chmod u+r {file}"),
    "list empty": ("a header line and one row per image", _AGAIN),
    "list without rows": ("one row per image below the header line", f"where the organisers hide the rows, {{key}}: "
                          f"null in {_DESCRIPTOR} does without the list; otherwise {_AGAIN}"),
    "list not plain text": ("plain text in UTF-8", _CSV),
    "list with another separator": ("commas between the columns", _CSV),
    "list with more than ids": ("one id per line, as in every .txt list",
                                "save it as a csv with a header line, and name the csv"),
    "list with broken quotes": ("quotes that open and close within a cell", _LINE),
    "list with uneven rows": ("as many cells in a row as in the header", _LINE),
    "list with a column twice": ("each column once", "remove one of the two"),
    "column missing": ("a column {column!r}", f"name the column so, or {_NAME_IT}"),
    "id empty": ("an id in every row", "fill the cell, or remove the row"),
    "id not a file name": ("an id that can be a file's name, folders included",
                           "write it without .., \\, | and a / in front"),
    "file name not text": ("a name of printable characters in UTF-8, without |", "rename the file"),
    "id twice": ("each id once", "where images have a row per object or class, name the csv as CSV of MASKS, which "
                 "reads all rows; otherwise remove the second row"),
    "class unknown": ("the label of a class", f"CLASS_LABELS in {_DESCRIPTOR} says what the list calls each class"),
    "polygons": ("run lengths", "draw the polygons into PNGs once, and name these as MASKS: {convert}"),
    "run lengths do not fit": ("runs inside their image, as ORDER, BASE and RELATIVE say",
                               f"correct these keys of MASKS in {_DESCRIPTOR}, or the row"),
    "id in train and test": ("each image in one list", "remove it from one of the two lists"),
    "test folder empty": ("test images, or a list of them", "name the folder that holds the test images (--test-dir)"),
    "sequence empty": ("a sequence in every row", "fill the cell: images of one video or scene share it"),
    "sequence not in the id": ("an id that matches {pattern!r}",
                               f"correct the id, or SEQUENCE_PATTERN in {_DESCRIPTOR}"),
    "sample without a class": ("rows of every class that is submitted", f"SUBMITTED: {{submitted}} in {_DESCRIPTOR}"),
    "sample without a class of objects": ("rows of every class that is submitted", "where an image has rows of its "
                                          f"objects only, EMPTY_ROWS: image of OBJECTS in {_DESCRIPTOR}; else "
                                          "SUBMITTED: {submitted}"),
    "sample row unknown": ("rows of test images and of known classes", _SAMPLE),
    "sample row missing": ("the same rows for every test image", _SAMPLE),
    "sample row twice": ("each row once", _SAMPLE),
    "sample not a zip": ("what SUBMISSION.FORMAT says", f"get it again, or correct SAMPLE_SUBMISSION in {_DESCRIPTOR}"),
    "sample of another form": ("the format that SUBMISSION.FORMAT and BOX_CONVENTION describe", f"correct these in "
                               f"{_DESCRIPTOR}, or get the sample submission again"),
    "sample file unknown": ("files of test images, such as {example}",
                            f"correct SUBMISSION.FILE in {_DESCRIPTOR}, or {_SAMPLE}"),
    # Finding files
    "folder missing": ("the folder of the {what}s", f"correct {{key}} in {_DESCRIPTOR}, or unpack the whole archive"),
    "folder unreadable": ("a folder that this user may list", "chmod u+rx {file}"),
    "image missing": ("an image for every row", f"{_LISTED}; where test images have a folder of their own: "
                        f"TEST_IMAGES in {_DESCRIPTOR}"),
    "mask missing": ("a mask file for every training image", "put it there; where images have no mask on purpose, "
                     f"WITHOUT_MASK: empty or skip in {_DESCRIPTOR}; where these files are not images, "
                     "ID_PATTERN there leaves them out"),
    "runs of no image": ("ids of images", f"correct MASKS.ID_COLUMN or ROWS in {_DESCRIPTOR}, or the ids: they must "
                         "match exactly, a file's suffix included"),
    "region missing": ("the file that VALID_REGION names for every image", f"put it there, or correct VALID_REGION in "
                       f"{_DESCRIPTOR}"),
    "id with a suffix": ("ids without a file's suffix, or a template that includes it",
                     f"{{key}}: {{template}} in {_DESCRIPTOR}"),
    "image under another name": (_SAME_NAME, _RENAME),
    "mask under another name": (_SAME_NAME, _RENAME),
    "not a file": ("an ordinary file", "replace it by the file"),
    "link to nowhere": ("a file, or a link to one", "correct the link, or replace it by the file itself"),
    "file unreadable": ("a file that this user may read", "chmod u+r on it, or copy it again"),
    # Any image file
    "file empty": ("a file with content", _AGAIN),
    "file truncated": ("a file with its end mark", _AGAIN),
    "file damaged": ("a file that decodes without errors", _AGAIN),
    "Git LFS pointer": ("the file itself, not a pointer to it", "in its repository: git lfs pull"),
    "not an image": (_FORMATS, _AGAIN),
    "file format": (_FORMATS, "convert it to one of these; PNG loses nothing"),
    "image of no size": ("at least one pixel", _AGAIN),
    "image too large": ("at most {most} pixels, or a TIFF of tiles or an npy file, which are read by region",
                        "if memory suffices to decode it once: python -c \"import sys, numpy, tifffile; from PIL "
                        "import Image; Image.MAX_IMAGE_PIXELS = None; tifffile.imwrite(sys.argv[2], "
                        "numpy.asarray(Image.open(sys.argv[1])), tile=(512, 512), compression='zlib')\" {file} NEW.tif"
                        "; or raise WHOLE_PX of IMAGE in the competition's file"),
    "several images in a file": ("one still image", "FRAME of IMAGE picks one, counted from 0; or save that frame as a "
                                 "file of its own"),
    "EXIF rotation": ("pixels stored upright, without a rotation tag", "turn the pixels, then check that the mask "
                      "or the boxes still fit: ImageOps.exif_transpose(Image.open(path)).save(path, quality=95)"),
    # Images
    "image with alpha": (_RGB_IMAGE, "where nothing is transparent, BANDS: [0, 1, 2] of IMAGE drops alpha ([0] for "
                         "grey images); else decide on a background, then " + _RGB),
    "CMYK image": (_RGB_IMAGE, "convert it to sRGB with its colour profile, in an image editor"),
    "image of another form": ("what IMAGE says", "correct IMAGE in the competition's file, or this file"),
    "number of channels": ("as many channels as IMAGE and IMAGES say",
                           f"CHANNELS, BANDS or FRAME of IMAGE in {_DESCRIPTOR}, or correct the file"),
    "pixels without a value": ("a number in every pixel", "IMAGE: {{NAN: 0}} "
                               f"in {_DESCRIPTOR} reads them as 0, or as any number that you give; VALID_REGION "
                               "keeps such pixels out of the loss and the score"),
    "another number format": ("{most}, as the training images", "save all images with the same number of bits"),
    "files of different sizes": ("files of one size, to be stacked as channels", "resample them to the same size"),
    "image in another colour space": (_RGB_IMAGE, _RGB),
    # Masks
    "size mismatch": ("a mask as large as its image", "get the mask that belongs to this image; where masks "
                      "are stored at another size on purpose, MASK_SIZE: any in the competition's file stretches them"),
    "size turned by 90 degrees": ("a mask as large as its image", "turn one of the two, then compare them by eye"),
    "lossy mask": (_MASK_FORMATS, "write it again from its source: this format invents values at every edge"),
    "mask in another format": (_MASK_FORMATS, "convert it to one of these"),
    "mask with palette": ("palette numbers that are classes: {values}",
                          f"MASK_VALUES: colors in {_DESCRIPTOR} reads them by COLORS; where the palette's numbers "
                          "mean classes, MASK_VALUES lists them"),
    "RGB mask": (_MASK, f"MASK_VALUES: colors in {_DESCRIPTOR} reads them by COLORS, which then has the stored colour "
                 "of each class"),
    "mask of other channels": ("a channel per class, in the order of CLASSES", "where a file is of one class, put "
                               f"{{{{class}}}} into MASKS of {_DESCRIPTOR}; where grey values mean classes, "
                               "MASK_VALUES: {{name: [values]}} says which"),
    "mask of other numbers": ("numbers in every pixel; with MASK_VALUES: shares of 8 or 16 bits, or floats from 0 to 1",
                              "write it again from its source"),
    "mask with fractions": (_MASK, "round or threshold its values, and write it again as integers"),
    "mask with alpha": (_MASK, "drop the alpha channel, once its meaning is known"),
    "mask of less than 8 bits": (_MASK, "readers stretch fewer bits to 0..255: MASK_VALUES: [0, 255] in "
                                 f"{_DESCRIPTOR} for 1 bit, or write class indices with 8 bits"),
    "mask of 0 and 255": ("values 0 and 1", f"MASK_VALUES: [0, {{top}}] in {_DESCRIPTOR} reads them as they are"),
    "mask value out of range": ("values {values}", "where masks store other grey values than class indices, "
                                f"MASK_VALUES in {_DESCRIPTOR} lists that of each class; where a class is missing, "
                                "correct CLASSES"),
    "mask value not in MASK_VALUES": ("values {values}", f"correct MASK_VALUES in {_DESCRIPTOR}, or the file; "
                                      "`ignore: others` there ignores all values that no class has"),
    "mask colour not in COLORS": ("the colours of the classes alone", f"correct COLORS in {_DESCRIPTOR}; make an "
                                  "ignored colour the last class and set IGNORE_INDEX"),
}
BOX_KINDS: dict[str, tuple[str, str]] = {
    "boxes missing": ("boxes of every training image", "add them; if images have none on purpose, write WITHOUT_MASK: "
                      f"empty or skip in {_DESCRIPTOR}"),
    "file of boxes missing": ("{file} in the competition's folder", _NAME_IT),
    "annotations unreadable": ("{wanted}", f"{_AGAIN}; if it has another format, correct BOXES in {_DESCRIPTOR}"),
    "number twice": ("a unique id for each image, annotation and category", "renumber them; merged files often repeat "
                     "ids"),
    "image annotated twice": ("each image once", "merge the two entries, or remove one"),
    "box of no image": ("the id of an entry in `images`", "correct it, or remove the annotation"),
    "boxes of no image": ("image names that match IMAGES or the image ids", "correct the names, or IMAGES or "
                          f"ID_COLUMN in {_DESCRIPTOR}"),
    "boxes of two images": ("names that match one image each", "add the folders of the images to the names"),
    "boxes of another size": ("annotations for the size of the image", "get the image that was annotated, or scale the "
                              "boxes to the new size"),
    "boxes in fractions": ("numbers in pixels", f"{{remedy}} (BOXES in {_DESCRIPTOR})"),
    "class of a box unknown": ("{a_class}", f"{{name_it}} in {_DESCRIPTOR}; `ignore: others` under NAMES drops all "
                               "other names"),
    "box without numbers": ("four finite numbers", _BOX),
    "box inside out": ("right and bottom not before left and top", f"if most boxes have this problem, "
                       f"{{check_order}}; else {_BOX}"),
    "box without area": ("a width and a height above 0", _BOX),
    "box outside its image": ("a box at least partly inside its image", f"if many boxes have this problem, "
                              f"{{check_numbers}}; else {_BOX}"),
    "box twice": ("each box of a class once", "remove one of the two, or write BAD_BOXES: skip under BOXES in "
                  f"{_DESCRIPTOR} to keep the first"),
}
# fmt: on
KINDS |= BOX_KINDS


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: the file, what was found in it, what was expected, how to fix it."""

    kind: str
    file: str
    found: str
    expected: str
    fix: str


def make_problem(kind: str, file: str, found: str, **facts: object) -> Problem:
    """Returns a problem of a kind of `KINDS`, with `facts` filled into its texts.

    >>> make_problem("CMYK image", "imgs/a.jpg", "8-bit CMYK").expected
    '8-bit RGB'
    """
    expected, fix = KINDS[kind]
    return Problem(kind, file, found, expected.format(file=file, **facts), fix.format(file=file, **facts))


def format_problems(problems: list[Problem], most_files: int = 8, width: int = 110) -> str:
    """Returns all problems as text for a terminal: a block per kind, in it a line per file.

    A kind with more than `most_files` files shows the first of them and counts the rest.

    >>> print(format_problems([make_problem("image of no size", "imgs/a.jpg", "0x0")]))
    1 problem in the competition's files:
    <BLANKLINE>
    image of no size
        imgs/a.jpg  0x0
      expected: at least one pixel
      fix:      copy or download the file again
    """
    if not problems:
        return "No problems in the competition's files."
    groups: dict[tuple[str, str, str], list[Problem]] = {}
    for problem in problems:
        groups.setdefault((problem.kind, problem.expected, problem.fix), []).append(problem)
    kinds = f" of {len(groups)} kinds" if len(groups) > 1 else ""
    heading = f"{len(problems):,} problem{'s' * (len(problems) != 1)}{kinds} in the competition's files:"
    return "\n\n".join([heading, *(_format_group(group, most_files, width) for group in groups.values())])


def _format_group(group: list[Problem], most_files: int, width: int) -> str:
    shown = group[:most_files]
    file_width = min(max(len(problem.file) for problem in shown), width // 2)
    lines = [group[0].kind if len(group) == 1 else f"{group[0].kind}: {len(group):,} times"]
    for problem in shown:
        lines += _hanging(f"    {problem.file:<{file_width}}  ", problem.found, width)
    if len(group) > len(shown):
        lines.append(f"    ... and {len(group) - len(shown):,} more")
    lines += _hanging("  expected: ", group[0].expected, width) + _hanging("  fix:      ", group[0].fix, width)
    return "\n".join(lines)


def _hanging(lead: str, text: str, width: int) -> list[str]:
    wrapped = textwrap.wrap(text, max(30, width - len(lead)), break_long_words=False, break_on_hyphens=False) or [""]
    return [(lead if index == 0 else " " * len(lead)) + line for index, line in enumerate(wrapped)]
