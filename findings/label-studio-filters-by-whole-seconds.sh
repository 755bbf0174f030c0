#!/usr/bin/env bash
# The Data Manager's filters of type Datetime take a time with a fraction of a second, and answer a time without one,
# "2026-01-02T03:04:05Z", with 500. Both are what ISO 8601 and RFC 3339 admit, and the API's own documents say no more than
# "Datetime". Its answers themselves are written with a fraction, so that only a client that makes its own times meets it.
#
# Helps: always write microseconds.
#
# Seen with label-studio 1.23.2 on Python 3.11, SQLite. Listens on 127.0.0.1 only.
set -euo pipefail

LABEL_STUDIO=1.23.2
PORT=${PORT:-18492}

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
{"title": "times", "label_config": "<View><Text name='t' value='$t'/><Choices name='c' toName='t'><Choice value='a'/><Choice value='b'/></Choices></View>"}
JSON
project=$(call "http://127.0.0.1:$PORT/api/projects/" -d @project.json | first_id)
[ -n "$project" ] || changed "no project can be made"
call "http://127.0.0.1:$PORT/api/projects/$project/import" -d '[{"t": "it purrs"}]' >imported.txt

since() {
  query=$(printf '{"filters": {"conjunction": "and", "items": [{"filter": "filter:tasks:created_at", "operator": "greater", "type": "Datetime", "value": "%s"}]}}' "$1")
  curl -s -G -o answer.txt -w '%{http_code}' -H "Authorization: Token $token" \
    --data-urlencode "query=$query" "http://127.0.0.1:$PORT/api/tasks?project=$project"
}
code=$(since 2020-01-02T03:04:05.000000Z)
echo "--- with a fraction: $code"
[ "$code" = 200 ] || changed "a time with a fraction is answered with $code"
grep -q '"total": *1' answer.txt || changed "the task is not found"
code=$(since 2020-01-02T03:04:05Z)
echo "--- without: $code"
head -c 300 answer.txt
echo
[ "$code" = 500 ] || changed "a time without a fraction is answered with $code"

echo "as described"
