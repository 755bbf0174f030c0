#!/usr/bin/env bash
# Label Studio takes a choice below another one, `[["animal", "cat"]]`, as an annotation: it is the form in which its editor
# stores them. The same region as a prediction is dropped by the bulk import, without a word: the answer is 201 and
# `{"created": 0}`. One at a time, POST /api/predictions/ takes it.
#
# Helps: compare `created` with what was sent, and do not trust the status.
#
# Seen with label-studio 1.23.2 on Python 3.11, SQLite. Listens on 127.0.0.1 only.
set -euo pipefail

LABEL_STUDIO=1.23.2
PORT=${PORT:-18490}

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
for _ in $(seq 120); do
  curl -fs -o /dev/null "http://127.0.0.1:$PORT/health" && break
  sleep 1
done

call() {
  curl -s -w '\n%{http_code}\n' -H "Authorization: Token $token" -H 'Content-Type: application/json' "$@"
}
first_id() { grep -o '"id": *[0-9]*' | head -n 1 | tr -dc 0-9; }
cat >project.json <<'JSON'
{"title": "one question", "label_config": "<View><Text name='t' value='$t'/><Choices name='c' toName='t' allowNested='true'><Choice value='animal'><Choice value='cat'/></Choice><Choice value='plant'/></Choices></View>"}
JSON
project=$(call "http://127.0.0.1:$PORT/api/projects/" -d @project.json | first_id)
[ -n "$project" ] || changed "no project can be made"
call "http://127.0.0.1:$PORT/api/projects/$project/import" -d '[{"t": "it purrs"}]' >imported.txt
task=$(call "http://127.0.0.1:$PORT/api/tasks?project=$project" | first_id)
region='[{"from_name": "c", "to_name": "t", "type": "choices", "value": {"choices": [["animal", "cat"]]}}]'

echo "--- as an annotation"
call "http://127.0.0.1:$PORT/api/tasks/$task/annotations/" -d "{\"result\": $region}" | tee answer.txt
[ "$(tail -n 1 answer.txt)" = 201 ] || changed "the annotation's answer is $(tail -n 1 answer.txt), not 201"

echo "--- as a prediction, in bulk"
call "http://127.0.0.1:$PORT/api/projects/$project/import/predictions" -d "[{\"task\": $task, \"result\": $region}]" | tee answer.txt
[ "$(tail -n 1 answer.txt)" = 201 ] || changed "the import's answer is $(tail -n 1 answer.txt), not 201"
grep -q '"created": *0' answer.txt || changed "the prediction is created"

echo "--- as a prediction, one at a time"
call "http://127.0.0.1:$PORT/api/predictions/" -d "{\"task\": $task, \"result\": $region}" | tee answer.txt
[ "$(tail -n 1 answer.txt)" = 201 ] || changed "one prediction's answer is $(tail -n 1 answer.txt), not 201"

echo "as described"
