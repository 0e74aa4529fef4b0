"""Refuses pseudo-labels that contradict batches, losses, padding or the competition."""

from __future__ import annotations

from pipeline.config.competition import Competition
from pipeline.config.loss_mix import parse_mix, term_parts
from pipeline.config.plan import Phase, given_mixes
from pipeline.config.schema import Config
from pipeline.config.tree import Problems
from pipeline.errors import UserError

# Of one class per pixel. The others are made of class indices (lovasz, boundary), or have no form for soft labels whose
# minimum is at the label (focal, bitempered). With LABELS: multilabel every loss takes soft labels.
SOFT_LOSSES = ("ce", "bce", "dice", "jaccard", "tversky")
RANKING = ("top", "below")  # settings of a loss that rank pixels by the loss of their one label
SOFT_PADDING = ("reflect", "ignore")  # the others fill a mask with one class
ROUNDING = 1e-6


def pseudo_problems(config: Config, competition: Competition, plan: tuple[Phase, ...]) -> Problems:
    """Yields the keys of PSEUDO that cannot be as they are, with what to write."""
    if config.pseudo.teacher is None or config.ensemble.members is not None:  # an ensemble hands them on to its members
        return
    yield from _share_problems(config)
    if competition.valid_region is not None:
        found = f"{competition.name} has a VALID_REGION, outside of which pixels would be labelled that no mask labels"
        yield "PSEUDO.TEACHER", f"{found}; set null"
    if config.pseudo.labels == "soft" and not competition.is_multilabel:
        yield from _soft_problems(config, plan)


def _share_problems(config: Config) -> Problems:
    share, batch = config.pseudo.share, config.dataloaders.train.batch_size
    number = share * batch
    is_whole = abs(number - round(number)) < ROUNDING * batch
    if is_whole and 0 < round(number) < batch:
        return
    of_batch = f"{share:g} of DATALOADERS.TRAIN.BATCH_SIZE {batch} is {number:.3g} samples"
    if batch == 1:
        yield "PSEUDO.SHARE", f"{of_batch}; a batch needs a labelled and a pseudo-labelled one, so raise BATCH_SIZE"
        return
    nearest = min(max(round(number), 1), batch - 1)
    wanted = f"expected a whole number from 1 to {batch - 1}"
    yield (
        "PSEUDO.SHARE",
        f"{of_batch}, {wanted}; set {nearest / batch:.7g} ({nearest} of {batch}), or another BATCH_SIZE",
    )


def _soft_problems(config: Config, plan: tuple[Phase, ...]) -> Problems:
    if config.datasets.padding not in SOFT_PADDING:
        why = f"{config.datasets.padding} has no soft label; with PSEUDO.LABELS soft set reflect or ignore"
        yield "DATASETS.PADDING", why
    for key, mix, where, _ in given_mixes(config, plan):
        try:
            terms = [term_parts(name) for name, _ in parse_mix(mix)]
        except UserError:  # refused elsewhere
            continue
        for loss, settings in terms:
            if loss not in SOFT_LOSSES:
                remedy = (
                    f"PSEUDO.LABELS soft is for {', '.join(SOFT_LOSSES)}; take one of them, or set PSEUDO.LABELS: hard"
                )
                yield key, f"{where}{loss} takes no soft labels; {remedy}"
            ranking = [name for name in RANKING if name in settings]
            if loss in SOFT_LOSSES and loss != "bce" and ranking:
                why = f"{where}{ranking[0]} of {loss} ranks pixels by the loss of one label, but PSEUDO.LABELS is soft"
                yield key, f"{why}; remove it, or set PSEUDO.LABELS: hard"
