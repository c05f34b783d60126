#!/bin/sh
# Writes what a release ships into dist/, from the commit that is checked out: the source, the lock of the
# image's Python part for the Python of .venv (the image has 3.12), its bill of materials (CycloneDX), and the
# checksums of all. The lock is installed twice without a network first, and each file of both compared.
#
# `make release` calls it. It asks PyPI, and needs a clean checkout: what is not committed is not shipped.
set -eu

cd "$(dirname "$0")/.."
python=.venv/bin/python
uv=.venv/bin/uv

fail() {
    echo "release: cannot go on: $1" >&2
    exit 1
}

[ -z "$(git status --porcelain)" ] || {
    git status --short >&2
    fail "there are changes that no commit holds: commit or remove them first"
}
version=$($python -c 'import include.chimera; print(include.chimera.__version__)')
case ${GITHUB_REF:-} in
refs/tags/*) [ "$GITHUB_REF" = "refs/tags/v$version" ] ||
    fail "the tag is ${GITHUB_REF#refs/tags/}, but include/chimera/__init__.py says $version" ;;
esac
name=chimera-$version
lock=dist/$name.requirements.txt
rm -rf dist
mkdir dist
wheelhouse=$(mktemp -d)
trap 'rm -rf "$wheelhouse"' EXIT

# The same versions and hashes as constraints.txt, without what only tests and checks need.
grep '^apache-airflow==' requirements-dev.txt |
    $uv pip compile --quiet --generate-hashes --no-annotate --no-header --python $python \
        --constraints constraints.txt requirements.txt - --output-file "$lock"

echo "release: fetching $(grep -c == "$lock") packages"
$python -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: \
    --no-binary pyspark-client --dest "$wheelhouse" --requirement "$lock"
# What the one source distribution is built with: isolated builds ask the wheelhouse too.
$python -m pip download --quiet --disable-pip-version-check --dest "$wheelhouse" setuptools

build() { # <folder>: install from the wheelhouse alone and print each file's checksum
    # By pip, in an order of its own: dbt-core and its adapters all bring a dbt/__init__.py, the last one stays.
    $python -m pip install --quiet --disable-pip-version-check --no-index --find-links "$wheelhouse" --no-cache-dir \
        --no-compile --no-deps --require-hashes --target "$wheelhouse/$1" --requirement "$lock"
    (cd "$wheelhouse/$1" && find . -type f -print0 | sort -z | xargs -0 sha256sum)
    rm -rf "${wheelhouse:?}/$1"
}
echo "release: building twice without a network"
build image >"$wheelhouse/first.sha256"
build image >"$wheelhouse/second.sha256"
diff "$wheelhouse/first.sha256" "$wheelhouse/second.sha256" >&2 || fail "two builds of one lock differ, see above"
echo "release: $(wc -l <"$wheelhouse/first.sha256") files, the same twice"

.venv/bin/cyclonedx-py requirements --output-reproducible --validate --output-file "dist/$name.cdx.json" "$lock"
git archive --format=tar.gz --prefix="$name/" --output="dist/$name.tar.gz" HEAD
cd dist
sha256sum "$name".* | tee "$name.sha256"
