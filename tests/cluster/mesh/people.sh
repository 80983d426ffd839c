# Sourced by mesh.sh: who sees what of the mesh, by the cluster's own credentials.
requests() { tulle stat "$1" -n shop --window 10m -o json | python3 -c 'import json, sys; print(sum(item["signals"]["requests"] for item in json.load(sys.stdin)["items"]))'; }
for _ in 1 2 3; do get http://server:8080/index.html >/dev/null; done
counted() { [ "$(requests server)" -ge 3 ]; }
check "tulle stat shows requests that went through the mesh" eventually 30 counted
says "tulle edges shows who called" "client" tulle edges -n shop
says "… as the cluster's administrator, by a client certificate, all namespaces" "outside" tulle stat
# a person who may read one namespace, and has a token
kubectl -n outside create serviceaccount reader >/dev/null
kubectl -n shop create rolebinding reader --clusterrole=view --serviceaccount=outside:reader >/dev/null
TOKEN=$(kubectl -n outside create token reader)
kubectl config view --minify --raw > "$W/reader"
( export KUBECONFIG=$W/reader
  kubectl config set-credentials reader --token="$TOKEN"; kubectl config set-context --current --user=reader ) >/dev/null
reader() { KUBECONFIG=$W/reader tulle "$@"; }
refuses "who may not even reach the control plane is told so" "forbidden" reader stat -n shop
kubectl -n tulle-system create rolebinding reader --role=tulle-reach --serviceaccount=outside:reader >/dev/null
check "role tulle-reach opens the way" eventually 20 reader stat -n shop
says "role view shows the namespace that it was given for" "server" reader stat
check "… and no other" fails contains "tulle-system" reader stat
refuses "… which the answer says" "system:serviceaccount:outside:reader may not get workloads.telemetry.tulle.dev in namespace outside" reader stat -n outside
# the port itself, and the dashboard
kubectl -n tulle-system port-forward deploy/tulle-control-plane :15016 > "$W/forward" 2>&1 & FORWARD=$!
forwarded() { sed -n 's/^Forwarding from 127.0.0.1:\([0-9]*\) .*/\1/p' "$W/forward" | grep .; }
eventually 20 forwarded
bare() { curl -sk "https://127.0.0.1:$(forwarded)$1" "${@:2}"; }
says "without credentials there are no figures" 401 bare /telemetry/stat -o /dev/null -w '%{http_code}'
says "a token that is none is none" "the cluster does not know this token" bare /telemetry/stat -H 'Authorization: Bearer junk'
says "a token is known" '"user":"system:serviceaccount:outside:reader"' bare /telemetry/me -H "Authorization: Bearer $TOKEN"
kill "$FORWARD"; wait "$FORWARD" 2>/dev/null || true
KUBECONFIG=$W/reader "$PROGRAMS/tulle" dashboard --no-open > "$W/dashboard" 2>&1 & DASHBOARD=$!
address() { grep -o 'http://127.0.0.1:[0-9]*/[0-9a-f]*/dashboard/' "$W/dashboard"; }
check "tulle dashboard prints its address" eventually 20 address
says "the dashboard asks as whoever opened it" '"namespaces":["shop"]' curl -s "$(address | sed s,dashboard/,telemetry/me,)"
says "pages of others get nothing" 421 curl -s -H 'Host: evil.example' -o /dev/null -w '%{http_code}' "$(address)"
kill "$DASHBOARD"; wait "$DASHBOARD" 2>/dev/null || true
