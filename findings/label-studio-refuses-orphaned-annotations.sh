#!/usr/bin/env bash
# A task that is open in a browser cannot be submitted once the prediction that it was begun from has been deleted: Label
# Studio answers 400, `"validation_errors": {"parent_prediction": ["Invalid pk \"2\" - object does not exist."]}`.
# An annotation that was submitted before the prediction was deleted stays, and its `parent_prediction` becomes null.
#
# Helps: leave the predictions that open tasks may have been begun from, and delete them the next time; or let people
# load the page anew.
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
{"title": "one question", "label_config": "<View><Text name='t' value='$t'/><Choices name='c' toName='t'><Choice value='cat'/><Choice value='dog'/></Choices></View>"}
JSON
project=$(call "http://127.0.0.1:$PORT/api/projects/" -d @project.json | first_id)
[ -n "$project" ] || changed "no project can be made"
call "http://127.0.0.1:$PORT/api/projects/$project/import" -d '[{"t": "it purrs"}]' >imported.txt
task=$(call "http://127.0.0.1:$PORT/api/tasks?project=$project" | first_id)
region='[{"from_name": "c", "to_name": "t", "type": "choices", "value": {"choices": ["cat"]}}]'
predict() { call "http://127.0.0.1:$PORT/api/predictions/" -d "{\"task\": $task, \"result\": $region}" | first_id; }
annotate() {
  call "http://127.0.0.1:$PORT/api/tasks/$task/annotations/" -d "{\"result\": $region, \"parent_prediction\": $1}"
}

echo "--- submitted, then the prediction is deleted"
prediction=$(predict)
annotate "$prediction" | tee answer.txt
[ "$(tail -n 1 answer.txt)" = 201 ] || changed "the annotation's answer is $(tail -n 1 answer.txt), not 201"
annotation=$(first_id <answer.txt)
call -X DELETE "http://127.0.0.1:$PORT/api/predictions/$prediction/"
call "http://127.0.0.1:$PORT/api/annotations/$annotation/" | tee answer.txt
grep -q '"parent_prediction": *null' answer.txt || changed "the annotation keeps its parent"

echo "--- the prediction is deleted, then it is submitted"
prediction=$(predict)
call -X DELETE "http://127.0.0.1:$PORT/api/predictions/$prediction/"
annotate "$prediction" | tee answer.txt
[ "$(tail -n 1 answer.txt)" = 400 ] || changed "the annotation's answer is $(tail -n 1 answer.txt), not 400"
grep -q 'Invalid pk' answer.txt || changed "it is refused for another reason"

echo "as described"
