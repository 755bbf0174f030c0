#!/usr/bin/env bash
# A project of 1,000 uploaded files on SQLite, Label Studio's default database: the Data Manager's listing answers a page of
# 1,000 tasks with 500 ("Expression tree is too large"), and 900 with 200. The same number of tasks without uploads is listed.
# For each page all its file names are looked up in one condition with a part per file, and SQLite admits a depth of 1,000.
# The page may be that long; nothing else says where the limit is. On PostgreSQL there is none.
#
# Helps: shorter pages.
#
# Seen with label-studio 1.23.2 on Python 3.11, SQLite. Listens on 127.0.0.1 only.
set -euo pipefail

LABEL_STUDIO=1.23.2
PORT=${PORT:-18491}

work=$(mktemp -d) processes=()
finish() {
  for process in "${processes[@]}"; do kill "$process" 2>/dev/null || true; done
  wait
  rm -rf "$work"
}
trap finish EXIT
changed() {
  echo "CHANGED: $1"
  exit 1
}

"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q "label-studio==$LABEL_STUDIO"
cd "$work"

token=0123456789abcdef0123456789abcdef01234567
export LABEL_STUDIO_BASE_DATA_DIR=$work/data LABEL_STUDIO_HOST=http://127.0.0.1:$PORT
export LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN=true COLLECT_ANALYTICS=false LATEST_VERSION_CHECK=false
export SENTRY_DSN="" FRONTEND_SENTRY_DSN=""
"$work/venv/bin/label-studio" start --no-browser --internal-host 127.0.0.1 --port "$PORT" \
  --username me@example.com --password finding-1 --user-token "$token" >server.txt 2>&1 &
processes+=($!)
for _ in $(seq 300); do
  curl -fs -o /dev/null "http://127.0.0.1:$PORT/health" && break
  sleep 1
done

call() {
  curl -s -w '\n%{http_code}\n' -H "Authorization: Token $token" -H 'Content-Type: application/json' "$@"
}
first_id() { grep -o '"id": *[0-9]*' | head -n 1 | tr -dc 0-9; }
cat >project.json <<'JSON'
{"title": "files", "label_config": "<View><Image name='i' value='$image'/><Choices name='c' toName='i'><Choice value='a'/><Choice value='b'/></Choices></View>"}
JSON
project() { call "http://127.0.0.1:$PORT/api/projects/" -d @project.json | first_id; }
listed() {
  curl -s -o answer.txt -w '%{http_code}' -H "Authorization: Token $token" \
    "http://127.0.0.1:$PORT/api/tasks?project=$1&page=1&page_size=$2&fields=task_only&include=id,data"
}

# A pixel, under a thousand names.
pixel='iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=='
base64 -d <<<"$pixel" >pixel.png
uploads=$(project)
[ -n "$uploads" ] || changed "no project can be made"
for part in $(seq 0 9); do
  files=()
  for number in $(seq $((100 * part)) $((100 * part + 99))); do
    files+=(-F "file$number=@pixel.png;filename=pixel-$number.png;type=image/png")
  done
  code=$(curl -s -o /dev/null -w '%{http_code}' -H "Authorization: Token $token" "${files[@]}" \
    "http://127.0.0.1:$PORT/api/projects/$uploads/import")
  [ "$code" = 201 ] || changed "files cannot be uploaded: $code"
done
others=$(project)
"$work/venv/bin/python" -c 'import json; print(json.dumps([{"image": f"https://example.com/{n}.png"} for n in range(1000)]))' >tasks.json
call "http://127.0.0.1:$PORT/api/projects/$others/import" -d @tasks.json >imported.txt

for try in "$uploads 900" "$others 1000" "$uploads 1000"; do
  read -r id size <<<"$try"
  code=$(listed "$id" "$size")
  echo "--- project $id ($([ "$id" = "$uploads" ] && echo uploads || echo addresses)), a page of $size: $code"
  case $try in
    "$uploads 1000")
      [ "$code" = 500 ] || changed "a page of 1,000 uploads is answered with $code"
      grep -o 'Expression tree is too large[^"]*' answer.txt || changed "the 500 has another reason"
      ;;
    *) [ "$code" = 200 ] || changed "the answer is $code, not 200" ;;
  esac
done

echo "as described"
