#!/bin/sh
# The entry point: creates the Python environment where there is none, then runs `python -m pipeline`.
#
#   ./run.sh demo          all stages on a small generated competition
#   ./run.sh -h            every command
#
# POSIX sh, so that it also runs where bash is old (macOS) or missing. pipeline/bootstrap/environment.py creates the
# environment and installs packages; this script only skips it when `.venv/ready` is up to date.
#   PYTHON=...             the Python to use, instead of the first Python 3.10+ on the PATH
#   LOCKED=1               install exactly the versions in requirements.lock, and check the hash of each file
#   PIP_FIND_LINKS=... PIP_NO_INDEX=1    install from a folder of wheels, without internet

unset CDPATH
here=$PWD
self=$0
while [ -L "$self" ]; do # started through a symbolic link: the project is where the link points to
    link=$(readlink "$self")
    case $link in /*) self=$link ;; *) self=$(dirname "$self")/$link ;; esac
done
case $self in */*) cd -P "${self%/*}" || exit 2 ;; esac

# Relative paths are relative to the folder in which the command was typed, but from here on that is the project.
value=
for name in DATA_DIR WEIGHTS_DIR RUNS_DIR SUBMISSIONS_DIR SCRATCH_DIR STORES_URL PIP_FIND_LINKS UV_FIND_LINKS; do
    eval "value=\${$name-}"
    case $value in
        "" | /* | *://*) ;;
        *) [ -d "$here/$value" ] || case $name in *_LINKS) continue ;; esac # else it may be a URL or a list
            eval "$name=\$here/\$value; export $name" ;;
    esac
done

# Ready: .venv/ready has the interpreter, whether the packages of the tests are installed, and the present text of
# requirements.txt (comparing texts needs no program for hashes). A Python newer than .venv/ready may be another one.
is_ready() {
    [ -f .venv/ready ] && [ -z "${LOCKED-}" ] || return 1
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
        [ -z "${PYTHON-}" ] || break # only the one in PYTHON
    done
    echo "run.sh: needs Python 3.10 or newer; found ${seen:-no ${PYTHON:-python3}}. Install it (python.org," \
        "apt install python3, brew install python), or give its path: PYTHON=/path/to/python3.12 ./run.sh ..." >&2
    return 1
}

export NO_ALBUMENTATIONS_UPDATE=1                      # albumentations looks for a newer version at import
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-PASSIVE}"   # idle threads sleep instead of spinning beside the loaders
# glibc keeps freed blocks for the next step instead of returning them to the system (tests/benchmarks/bench_kept_memory.py)
export MALLOC_MMAP_THRESHOLD_="${MALLOC_MMAP_THRESHOLD_:-134217728}"
export MALLOC_TRIM_THRESHOLD_="${MALLOC_TRIM_THRESHOLD_:-536870912}"

if ! is_ready "$@"; then
    find_python || exit 2
    case "${1-} ${2-}" in
        " " | -h* | --help* | help* | *" -h" | *" --help") exec "$base" -m pipeline "$@" ;; # help needs no package
    esac
    "$base" -m pipeline.bootstrap.environment "$@"
    code=$?
    if [ "$code" -ne 0 ]; then
        # The doctor needs no package either.
        if [ "${1-}" = doctor ] && [ "$code" -eq 2 ]; then exec "$base" -m pipeline.bootstrap.doctor; fi
        exit "$code"
    fi
    read -r python <.venv/ready
fi
exec "$python" -m pipeline "$@"
