#!/bin/sh
# Writes the hashed locks beside this file: dev.txt first, the others held to its versions. Called by `make lock`.
set -eu
cd "$(dirname "$0")/../.."
uv=$(dirname "$PYTHON")/uv
[ -x "$uv" ] || "$PYTHON" -m pip --disable-pip-version-check --quiet install uv
here=deploy/requirements

compile() { # FILE SOURCE OPTIONS…
    file=$1
    shift
    "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header "$@" \
        --output-file "$here/$file.new" >/dev/null
    { echo "# Written by make lock. Install with: pip install --require-hashes --no-deps -r $file"; cat "$here/$file.new"; } >"$here/$file"
    rm "$here/$file.new"
}

compile dev.txt pyproject.toml --all-extras --group dev
held="--constraint $here/dev.txt"
# shellcheck disable=SC2086 # two words on purpose
{
    compile api.txt pyproject.toml --extra api $held
    compile worker.txt pyproject.toml --extra worker $held
    compile cli.txt pyproject.toml --extra cli $held
    compile embedded.txt pyproject.toml --all-extras $held
    compile build.txt $here/build.in $held
}
