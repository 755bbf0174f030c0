#!/usr/bin/env bash
# Label Studio refuses to connect an ML backend on a private address: POST /api/ml answers 403 `URL resolves to a reserved
# network address`. The backend is in the project all the same and is shown as connected; only its webhook is missing.
#
# Two settings allow private addresses. With ML_BLOCK_LOCAL_IP=false alone the backend passes the first check and its row
# is written; then the webhook that comes with it is refused by the second. Whoever tries again has two backends.
#
# Helps: set SSRF_PROTECTION_ENABLED=false too where the backend has to live on a private address; after a 403 look for
# the row and delete it.
#
# Seen with label-studio 1.23.2 on Python 3.11, SQLite. Listens on 127.0.0.1 only.
set -euo pipefail

LABEL_STUDIO=1.23.2
PORT=${PORT:-18480} # and the next one, for the backend

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
export SENTRY_DSN="" FRONTEND_SENTRY_DSN="" ML_BLOCK_LOCAL_IP=false
"$work/venv/bin/label-studio" start --no-browser --internal-host 127.0.0.1 --port "$PORT" \
  --username me@example.com --password finding-1 --user-token "$token" >server.txt 2>&1 &
processes+=($!)

# The least that Label Studio accepts as a backend.
cat >backend.py <<'PYTHON'
import http.server
import json
import sys


class Backend(http.server.BaseHTTPRequestHandler):
    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = json.dumps({"status": "UP", "model_version": "1"}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer


http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Backend).serve_forever()
PYTHON
"$work/venv/bin/python" backend.py $((PORT + 1)) >backend.txt 2>&1 &
processes+=($!)

for _ in $(seq 120); do
  curl -fs -o /dev/null "http://127.0.0.1:$PORT/health" && break
  sleep 1
done

call() {
  curl -s -w '\n%{http_code}\n' -H "Authorization: Token $token" -H 'Content-Type: application/json' "$@"
}
cat >project.json <<'JSON'
{"title": "one question", "label_config": "<View><Text name='t' value='$t'/><Choices name='c' toName='t'><Choice value='a'/><Choice value='b'/></Choices></View>"}
JSON
project=$(call "http://127.0.0.1:$PORT/api/projects/" -d @project.json | grep -o '"id": *[0-9]*' | head -n 1 | tr -dc 0-9)
[ -n "$project" ] || changed "no project can be made"

echo "--- POST /api/ml with a backend on 127.0.0.1"
cat >backend.json <<JSON
{"project": $project, "url": "http://127.0.0.1:$((PORT + 1))", "title": "refused"}
JSON
call "http://127.0.0.1:$PORT/api/ml" -d @backend.json | tee answer.txt
[ "$(tail -n 1 answer.txt)" = 403 ] || changed "the answer is $(tail -n 1 answer.txt), not 403"

echo "--- GET /api/ml"
call "http://127.0.0.1:$PORT/api/ml?project=$project" | tee backends.txt
grep -q '"readable_state": *"Connected".*"title": *"refused"' backends.txt || changed "it is not kept, or not as connected"

echo "--- GET /api/webhooks"
call "http://127.0.0.1:$PORT/api/webhooks/?project=$project" | tee webhooks.txt
[ "$(head -n 1 webhooks.txt)" = "[]" ] || changed "the refused backend has a webhook"

echo "as described"
