"""The losses by name, their settings, and mixes of them: `0.7 ce + 0.3 tversky(alpha=0.3, beta=0.7)`.

A term's name has those settings that differ from their defaults, so `focal(gamma=2)` is `focal`. Tables name it so too:
without commas, so that it fits into a line of csv.
"""

from __future__ import annotations

import functools
import math
import re

from pipeline.config.plain_yaml import NUMBER, Mismatch, Range
from pipeline.config.terms import Setting, read_settings, settings_text, split_term, split_terms
from pipeline.errors import UserError
from pipeline.wording import did_you_mean

SALEHI_ALPHA, SALEHI_BETA = 0.3, 0.7  # weights of false positives and false negatives that the Tversky paper found best
CIFAR_T1, CIFAR_T2 = 0.8, 1.2  # temperatures of loss and softmax that the bi-tempered paper used on CIFAR-100
FOCAL_GAMMA = 2.0  # the best one of the focal paper
SMOOTH_L1_BETA = 1 / 9  # below which the error is squared; as in Detectron, the code of the focal paper

# Of losses that are means over pixels. `stride`: only the pixels of every so many rows and columns count. `top`: only
# this share of them, those of the highest loss.
PIXELS = {
    "stride": Setting(Range(least=1, most=64), 1, is_whole=True),
    "top": Setting(Range(above=0, most=1), 1.0),
}
# `below`: beyond the share of `top` all pixels whose label has a lower probability. `smooth`: share of the label that
# is spread over all classes.
CERTAINTY = {
    "below": Setting(Range(least=0, most=1), 0.0),
    "smooth": Setting(Range(least=0, most=0.9), 0.0),
}
OF_PIXELS: dict[str, dict[str, Setting]] = {
    "dice": {},
    "jaccard": {},
    "ce": PIXELS | CERTAINTY,
    "focal": {"gamma": Setting(Range(least=0, most=10), FOCAL_GAMMA)} | PIXELS,
    "bitempered": {
        # Nearer to 1 the library's gradient is not finite for logits of 60 or more.
        "t1": Setting(Range(least=0, most=0.9), CIFAR_T1),
        "t2": Setting(Range(least=1.1, most=4), CIFAR_T2),
        **PIXELS,
    },
    "lovasz": {},
    "tversky": {
        "alpha": Setting(Range(least=0, most=100), SALEHI_ALPHA),
        "beta": Setting(Range(least=0, most=100), SALEHI_BETA),
    },
    "boundary": {},
    "bce": PIXELS | CERTAINTY | {"positive": Setting(Range(above=0, most=1e4), 1.0)},
}
# Of boxes: the losses of RetinaNet (Lin et al. 2017) and of YOLOX (Ge et al. 2021), with the numbers of these papers.
OF_BOXES: dict[str, dict[str, Setting]] = {
    "sigmoid_focal": {
        "alpha": Setting(Range(least=0, most=1), 0.25),
        "gamma": Setting(Range(least=0, most=10), FOCAL_GAMMA),
    },
    "smooth_l1": {"beta": Setting(Range(least=0, most=10), SMOOTH_L1_BETA)},
    "iou": {},
    "conf": {},
    "cls": {},
    "l1": {},
}
SETTINGS = OF_PIXELS | OF_BOXES
LOSS_NAMES = tuple(SETTINGS)
EXAMPLE = "0.7 ce + 0.3 tversky(alpha=0.3, beta=0.7)"


def parse_mix(text: str) -> tuple[tuple[str, float], ...]:
    """Returns the terms of a mix by name, with their weights.

    >>> parse_mix("0.7 ce + 0.3 tversky(beta=1, alpha=0.3) + focal(gamma=2)")
    (('ce', 0.7), ('tversky(beta=1)', 0.3), ('focal', 1.0))

    Raises:
        UserError: an unknown name or setting, a repeated term, or a number out of its range.
    """
    mix: dict[str, float] = {}
    for term in split_terms(text):
        try:
            name, weight = _read_term(term)
            if name in mix:
                raise Mismatch(f"{name} is given twice; add up their weights")
        except Mismatch as mismatch:
            raise UserError(f"cannot read {term!r} in the loss mix {text!r}; {mismatch}") from None
        mix[name] = weight
    return tuple(mix.items())


def _read_term(term: str) -> tuple[str, float]:
    before, texts = split_term(term)
    words = before.split()
    weight_text, loss = words if len(words) == 2 else ("1", words[0] if len(words) == 1 else "")
    weight = float(weight_text) if NUMBER.fullmatch(weight_text) else math.nan
    example = f'expected for example "{EXAMPLE}", of {", ".join(LOSS_NAMES)}'
    if loss not in SETTINGS:
        raise Mismatch(did_you_mean(loss, LOSS_NAMES, example))
    if not 0 < weight < math.inf:
        raise Mismatch(f"the weight {weight_text!r} is not a number above 0; write, for example, 0.5 {loss}")
    known = SETTINGS[loss]
    values = read_settings(loss, texts, known)
    if values.get("below") and values["top"] == 1:
        raise Mismatch("below adds pixels to the share of top; give both, such as ce(top=0.1, below=0.7)")
    if loss == "tversky" and not values["alpha"] + values["beta"]:
        raise Mismatch("tversky: alpha and beta are both 0, and no error would cost anything; raise one")
    own = {word: value for word, value in values.items() if value != known[word].default}
    return f"{loss}({settings_text(own, ' ')})" if own else loss, weight


def term_settings(name: str) -> dict[str, float]:
    """Returns all settings of a term by its name, those by default included.

    >>> term_settings("tversky(beta=1)")
    {'alpha': 0.3, 'beta': 1.0}
    """
    loss, own = term_parts(name)
    return {word: own.get(word, setting.default) for word, setting in SETTINGS[loss].items()}


@functools.cache
def term_parts(name: str) -> tuple[str, dict[str, float]]:
    """Returns the loss of a term by its name, and the settings that are not by default.

    >>> term_parts("tversky(alpha=0.5 beta=1)"), term_parts("ce(stride=8)"), term_parts("dice")
    (('tversky', {'alpha': 0.5, 'beta': 1.0}), ('ce', {'stride': 8}), ('dice', {}))
    """
    loss, _, inside = name.partition("(")
    pairs = re.findall(r"(\w+)=([^ )]+)", inside)
    return loss, {word: int(text) if SETTINGS[loss][word].is_whole else float(text) for word, text in pairs}
