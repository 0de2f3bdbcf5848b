#!/usr/bin/env bash
# Make the environment of one peer: install.sh NAME PYTHON. Does nothing where it is there already.
set -eu
name=$1
python=${2:-python3}
home=.venv-$name
wanted=benchmarks/peers/requirements-$name.txt
if [ -e "$home/.ready" ] && [ ! "$wanted" -nt "$home/.ready" ]; then
  echo "ready: $name"
  exit 0
fi
if [ "$name" = spark ] && ! java -version >/dev/null 2>&1; then
  echo "Spark needs Java 17 or later on the path, and there is none" >&2
  exit 1
fi
[ -x "$home/bin/python" ] || "$python" -m venv "$home"
"$home/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile -r "$wanted"
touch "$home/.ready"
echo "installed: $name"
