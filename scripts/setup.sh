#!/bin/sh
# Makes .venv what constraints.txt says, and does nothing when it is that already.
#
# `make` calls it before everything else. It needs a Python 3.11 to 3.13 and a network to PyPI; uv
# installs the lock, and pip gets uv where there is none. The stamps are written last, so an interrupted
# set-up has none and the next call starts over. PYTHON=<program> chooses the Python.
set -eu

cd "$(dirname "$0")/.."
root=$(pwd -P)
venv=.venv
venv_python=$venv/bin/python
log=$root/.chimera/setup.log
lock_stamp=$venv/.chimera-lock # a copy of the lock that was installed
root_stamp=$venv/.chimera-root # where: an environment can't be moved

say() { printf 'setup: %s\n' "$*"; }

fail() {
    say "cannot go on: $1" >&2
    shift
    for line in "$@"; do printf '       %s\n' "$line" >&2; done
    exit 1
}

is_ready() {
    [ -f "$root_stamp" ] && [ "$(cat "$root_stamp")" = "$root" ] &&
        cmp -s constraints.txt "$lock_stamp" && "$venv_python" -c '' 2>/dev/null
}

# --- one set-up at a time -------------------------------------------------------------------------

hold=.chimera/setup.lock
ticker=
finish() {
    [ -z "$ticker" ] || kill "$ticker" 2>/dev/null || :
    [ ! -f "$hold/pid" ] || [ "$(cat "$hold/pid")" != "$$" ] || rm -rf "$hold"
}

take_turn() {
    told=
    until mkdir "$hold" 2>/dev/null; do
        holder=$(cat "$hold/pid" 2>/dev/null || :)
        if [ -n "$holder" ] && ! kill -0 "$holder" 2>/dev/null; then
            rm -rf "$hold" # its holder was killed
            continue
        fi
        [ -n "$told" ] || say "waiting for another set-up in this folder (process ${holder:-?})"
        told=yes
        sleep 1
        # A holder that was killed before it could write its pid.
        [ -f "$hold/pid" ] || { sleep 2; [ -f "$hold/pid" ] || rm -rf "$hold"; }
    done
    echo $$ >"$hold/pid"
    trap finish EXIT
    trap 'exit 130' INT
    trap 'exit 129' HUP
    trap 'exit 143' TERM
}

# --- which Python ---------------------------------------------------------------------------------

python=
looked_at=
find_python() {
    # shellcheck disable=SC2086  # PYTHON may be empty
    for candidate in ${PYTHON:+"$PYTHON"} python3.12 python3.13 python3.11 python3; do
        path=$(command -v "$candidate" 2>/dev/null) || {
            looked_at="$looked_at|$candidate: not on PATH"
            continue
        }
        # Ask the interpreter itself: a pyenv shim is there for versions that it does not run.
        version=$("$path" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null) || {
            looked_at="$looked_at|$candidate: $path does not run"
            continue
        }
        case $version in
        3.1[123].*)
            python=$path
            say "using Python $version at $path"
            return
            ;;
        esac
        looked_at="$looked_at|$candidate: $path is $version"
    done
    return 1
}

no_python() {
    old_ifs=$IFS
    IFS='|'
    # shellcheck disable=SC2086  # split at |
    set -- ${looked_at#|}
    IFS=$old_ifs
    fail "no Python 3.11, 3.12 or 3.13" "Looked at:" "$@" \
        "Install one of them, or name it: make run PYTHON=/path/to/python3.12"
}

# --- installing -----------------------------------------------------------------------------------

explain() { # after a failed step: the end of its output, and what is most likely wrong
    step=$1
    tail -n 15 "$log" >&2
    if grep -qiE 'name resolution|not known|unreachable|refused|timed out|dns error|max retries|failed to fetch|connection broken|proxy|from versions: none' "$log"; then
        fail "$step failed: PyPI did not answer" \
            "Set-up downloads about 300 MB from the Python package index." \
            "Check the network, or point pip (PIP_INDEX_URL) or uv (UV_INDEX_URL) to a mirror."
    fi
    if grep -qi 'no space left' "$log"; then
        fail "$step failed: the disk is full" ".venv takes about 1.5 GB in $root"
    fi
    fail "$step failed" "The whole output is in $log"
}

quietly() { # run a step with its output in the log
    step=$1
    shift
    "$@" >>"$log" 2>&1 || explain "$step"
}

start_ticker() {
    (
        seconds=0
        while sleep 15 && kill -0 $$ 2>/dev/null; do
            seconds=$((seconds + 15))
            say "still installing, $seconds s"
        done
    ) &
    ticker=$!
}

make_venv() { # with uv in it, which installs the lock in a tenth of pip's time
    if command -v uv >/dev/null 2>&1; then
        [ -n "$python" ] || say "no suitable Python here, asking uv for one"
        quietly "making $venv" uv venv --quiet --clear --python "${python:-3.12}" "$venv"
        uv=uv
        return
    fi
    rm -rf "$venv"
    if "$python" -m venv "$venv" >>"$log" 2>&1; then
        set -- "$venv_python" -m pip
    elif "$python" -m venv --clear --without-pip "$venv" >>"$log" 2>&1 &&
        "$python" -m pip --python "$venv_python" --version >>"$log" 2>&1; then
        set -- "$python" -m pip --python "$venv_python"
    else
        tail -n 5 "$log" >&2
        fail "$python can't make a virtual environment" \
            "Its venv module is missing or incomplete. On Debian and Ubuntu: apt install python3-venv." \
            "Or install uv (https://docs.astral.sh/uv/), or name another Python: make run PYTHON=…"
    fi
    sed -n '/^uv==/,/[^\\]$/p' constraints.txt >"$venv/uv.txt"
    quietly "getting uv" "$@" install --disable-pip-version-check --no-input --no-deps \
        --require-hashes --requirement "$venv/uv.txt"
    uv=$venv/bin/uv
    # uv does not read pip's configuration, where a company names its mirror and its certificates.
    mirror=${PIP_INDEX_URL:-$("$@" config get global.index-url 2>/dev/null || :)}
    [ -z "$mirror" ] || export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$mirror}"
    export UV_NATIVE_TLS="${UV_NATIVE_TLS:-true}"
}

find_site() {
    "$venv_python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
}

install() {
    quietly "installing" "$uv" pip sync --quiet --python "$venv_python" --require-hashes constraints.txt
    say "compiling"
    # What many processes import as they start. The rest is compiled where it is first imported.
    site=$(find_site)
    for package in airflow cosmos dbt great_expectations networkx numpy pandas scipy sqlalchemy; do
        set -- "$@" "$site/$package"
    done
    "$venv_python" -m compileall -q -j 0 -x 'site-packages/.*/tests/' "$@" >>"$log" 2>&1 || :
}

write_pth() { # include.chimera is importable from any folder, as with PYTHONPATH in the Astro image
    printf '%s\n' "$root" >"$(find_site)/chimera.pth"
}

# --- main -----------------------------------------------------------------------------------------

# Lake, payloads and task logs will stand there: nobody else's business.
{ mkdir -p .chimera && chmod 700 .chimera; } 2>/dev/null || fail "this folder can't be written to" "$root"
! is_ready || exit 0
take_turn
! is_ready || exit 0
: >"$log"
begun=$(date +%s)
find_python || command -v uv >/dev/null 2>&1 || no_python
rm -f "$lock_stamp" "$root_stamp"
count=$(grep -c '==' constraints.txt)
say "installing $count packages into $root/$venv; this takes half a minute to three"
start_ticker
make_venv
install
write_pth
printf '%s\n' "$root" >"$root_stamp"
cp constraints.txt "$lock_stamp"
rm -f "$log"
say "done in $(($(date +%s) - begun)) s"
