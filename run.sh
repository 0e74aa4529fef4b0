#!/bin/sh
# The only door: makes the environment when there is none, then hands on to `python -m pipeline`.
#
#   ./run.sh demo          the whole chain on a small generated competition
#   ./run.sh -h            every command
#
# Plain sh without anything newer than 1992, so that it also runs where bash is old (macOS) or missing.
# What is decided and installed is in pipeline/door/bootstrap.py; here only the way past it when there is nothing to do.
#   PYTHON=...             the interpreter to begin with, instead of the first Python 3.10+ on the PATH
#   PIP_FIND_LINKS=... PIP_NO_INDEX=1    install from a folder of wheels, without internet

unset CDPATH
here=$PWD
self=$0
while [ -L "$self" ]; do # started through a symbolic link: the project is where the link leads
    link=$(readlink "$self")
    case $link in /*) self=$link ;; *) self=$(dirname "$self")/$link ;; esac
done
case $self in */*) cd -P "${self%/*}" || exit 2 ;; esac

# Paths are meant from where the command was typed, but from here on we stand in the project's folder.
value=
for name in DATA_DIR WEIGHTS_DIR RUNS_DIR SUBMISSIONS_DIR SCRATCH_DIR PIP_FIND_LINKS UV_FIND_LINKS; do
    eval "value=\${$name-}"
    case $value in
        "" | /*) ;;
        *) [ -d "$here/$value" ] || case $name in *_LINKS) continue ;; esac # else it may be an address or a list
            eval "$name=\$here/\$value; export $name" ;;
    esac
done

# Ready means: .venv/ready holds the interpreter, whether the tests' packages are in, and the very requirements.txt of now.
# A comparison of texts needs no hashing program. An interpreter newer than the mark may have been replaced: look closer.
is_ready() {
    [ -f .venv/ready ] || return 1
    { read -r python && read -r tests; } <.venv/ready
    newline='
'
    [ -x "$python" ] && ! [ "$python" -nt .venv/ready ] &&
        [ "$(cat .venv/ready)" = "$python$newline$tests$newline$(cat requirements.txt)" ] &&
        { [ "$tests" = "with tests" ] || [ "${1-}" != test ]; }
}

find_python() {
    seen=
    for base in ${PYTHON:+"$PYTHON"} python3 python3.14 python3.13 python3.12 python3.11 python3.10 python; do
        if command -v "$base" >/dev/null 2>&1; then
            if "$base" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1; then return 0; fi
            [ -n "$seen" ] || seen="$base is $("$base" --version 2>&1 | head -n 1)"
        fi
        [ -z "${PYTHON-}" ] || break # the one that was named, or none
    done
    echo "run.sh: needs Python 3.10 or newer; found: ${seen:-no ${PYTHON:-python3}}. Install it (python.org," \
        "apt install python3, brew install python) or name it: PYTHON=/path/to/python3.12 ./run.sh ..." >&2
    return 1
}

export NO_ALBUMENTATIONS_UPDATE=1                      # albumentations asks the network for news at import
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-PASSIVE}"   # idle threads sleep: spinning ones take the loaders' cores

if ! is_ready "$@"; then
    find_python || exit 2
    case ${1-} in "" | -h | --help | help) exec "$base" -m pipeline "$@" ;; esac # not worth 6 GB
    "$base" -m pipeline.door.bootstrap "$@"
    code=$?
    if [ "$code" -ne 0 ]; then
        # What is missing and how to mend it can be told without any package.
        if [ "${1-}" = doctor ] && [ "$code" -eq 2 ]; then exec "$base" -m pipeline.door.doctor; fi
        exit "$code"
    fi
    read -r python <.venv/ready
fi
exec "$python" -m pipeline "$@"
