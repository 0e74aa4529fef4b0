"""How each command is typed: what `./run.sh COMMAND --help` prints. Text only, so that help needs no package."""

from __future__ import annotations

# fmt: off
USAGE: dict[str, str] = {
    "list": """\
./run.sh list [WORD ...]
Prints every config, or those whose name or question has all the words: question, state, score, published score.

Example: ./run.sh list copy-paste
""",
    "show": """\
./run.sh show NAME [KEY=VALUE ...] [--json]
Prints every resolved value of a config, and the file and line that set it.
  KEY=VALUE     as for a run: another value, and the folder that such a run has
  --json        the values alone, for programs

Example: ./run.sh show ExpAAB SOLVER.MAX_LR=5e-4
""",
    "plan": """\
./run.sh plan NAME [KEY=VALUE ...]
Prints the phases of a config's training plan, and draws its learning rate over the epochs.

Example: ./run.sh plan ExpAAB SOLVER.PLAN=one_cycle
""",
    "compare": """\
./run.sh compare NAME NAME ...
Prints the settings in which runs differ and their scores, and draws scores and curves.

Example: ./run.sh compare ExpAAB ExpAAC
""",
    "shakeup": """\
./run.sh shakeup NAME NAME ...
Prints how far submissions must lie apart to differ truly, and which two to choose as finals. The runs must have been
judged on images in common.

Example: ./run.sh shakeup ExpAAB ExpAAC EnsAAA
""",
    "score": """\
./run.sh score FILE.csv --masks DIR [--competition NAME]
Prints Dice and IoU of a submission whose images' masks are known, over the classes that the competition scores.
  --masks DIR          folder of the true masks, called and stored as the competition's own
  --competition NAME   a file in configs/competitions/; may be left out where FILE.json beside the csv says it

Example: ./run.sh score submissions/ExpAAB.csv --masks truth --competition aeroscapes
""",
    "diff": """\
./run.sh diff ONE.csv TWO.csv [--competition NAME]
Prints where two submissions differ most, by image and class, and draws those images.
  --competition NAME   a file in configs/competitions/; may be left out where a .json beside one of the csv says it

Example: ./run.sh diff submissions/ExpAAB.csv submissions/ExpAAC.csv
""",
    "submit": """\
./run.sh submit NAME [KEY=VALUE ...] -m "MESSAGE" [--again]
Uploads a run's submission to Kaggle, with its local score in the message, and notes it in the log.
  -m, --message TEXT   what Kaggle shows beside the upload
  --again              even where the same content was uploaded before

Example: ./run.sh submit ExpAAB -m "flat, then cosine"
""",
    "log": """\
./run.sh log --competition NAME
Asks Kaggle for the scores of all uploads, keeps them in the log and prints them beside the local ones.
  --competition NAME   a file in configs/competitions/ with a KAGGLE_SLUG

Example: ./run.sh log --competition aeroscapes
""",
    "convention": """\
./run.sh convention NAME RUNS.csv
Finds out how a competition writes its runs, from its training rows and masks, and prints the CONVENTION to write into
configs/competitions/NAME.yaml.
  NAME          of the competition
  RUNS.csv      run lengths of training images, often train.csv itself

Example: ./run.sh convention aeroscapes train_runs.csv
""",
    "download": """\
./run.sh download NAME
Fetches a competition's data into data/NAME, or an encoder's weights into WEIGHTS_DIR.

Example: ./run.sh download camvid
""",
    "doctor": """\
./run.sh doctor
Prints what this machine has, what is missing, and what to type to mend it.

Example: ./run.sh doctor
""",
    "test": """\
./run.sh test [PYTEST ARGUMENT ...]
Runs the tests; `./run.sh test --help` is pytest's own.

Example: ./run.sh test tests/data -x
""",
}
# fmt: on
