"""The numbers of the random streams of samples and epochs.

Every step of augmentation draws from a stream of its own, so that switching one step off leaves the others as they
were. A number is part of the seed: it must not change, or every sample does.
"""

GEOMETRY, PASTING, COLOR, ORDER = range(4)
CROP, MOSAIC, CUT_MIX, CLASS_MIX, ELASTIC, GRID_DISTORTION, OPTICAL_DISTORTION = range(4, 11)
GAMMA, BLUR, SHARPEN, COARSE_DROPOUT, MIX_UP = range(11, 16)
PSEUDO_ORDER = 16
