#!/usr/bin/env bash
# `mkdocs build --strict` fails where a link leads nowhere. With `--quiet` beside it, it succeeds.
#
# --strict counts the warnings that reach a log handler, and --quiet raises the logger's level, so that none does. In a
# CI job that keeps its log short, strict checking is off, and nothing says so.
#
# Helps: leave --quiet out, or send the output to a file.
#
# Seen with mkdocs 1.6.1 on Python 3.11.
set -euo pipefail

MKDOCS=1.6.1

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
changed() {
  echo "CHANGED: $1"
  exit 1
}

"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q "mkdocs==$MKDOCS"
cd "$work"
mkdir docs
echo 'site_name: two pages, one link that leads nowhere' >mkdocs.yml
echo 'See [the other page](missing.md).' >docs/index.md

"$work/venv/bin/mkdocs" --version
for flags in "--strict" "--strict --quiet"; do
  # shellcheck disable=SC2086
  if "$work/venv/bin/mkdocs" build $flags >output.txt 2>&1; then status=0; else status=$?; fi
  echo "--- mkdocs build $flags: exit $status"
  cat output.txt
  case "$flags: $status" in
    "--strict: 1" | "--strict --quiet: 0") ;;
    *) changed "mkdocs build $flags ends with $status" ;;
  esac
done

echo "as described"
