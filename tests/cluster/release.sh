#!/bin/bash
# release.sh: releases on a real cluster, under load, with controllers, nodes and people doing what they do meanwhile; none of the user's
# objects is written by anybody but the user and Kubernetes. Closes with how many passed and failed. KEEP, REUSE, KUBECONFIG: meshed.sh.
set -euo pipefail
NAME=${NAME:-release}; KT=$(cd "$(dirname "$0")" && pwd); . "$KT/env.sh"; cd "$KT/../.."
. "$KT/checks.sh"; REPLICAS=2; . "$KT/meshed.sh"
k() { kubectl -n release "$@"; }
system() { kubectl -n tulle-system "$@"; }

cluster 2 release
# The client is where the cluster's DNS is; the other node is drained.
first=$(kubectl -n kube-system get pod -l k8s-app=kube-dns -o 'jsonpath={.items[0].spec.nodeName}')
mapfile -t nodes < <(echo "$first"; kubectl get nodes -o name | sed 's|^node/||' | grep -vx "$first")
[ "${REUSE:-}" ] || check "tulle install" tulle install -f "$W/values.yaml" --timeout 90s
webhooks() { kubectl get mutatingwebhookconfiguration tulle-injector -o 'jsonpath={.webhooks[*].name}' | grep -q .; }
check "the webhook is there" eventually 30 webhooks
sed "s/@FIRST@/$first/" "$KT/release/shop.yaml" | kubectl apply -f - >/dev/null
check "all pods are ready" eventually 60 k wait --for=condition=Ready pod --all --timeout=1s

# --- what is asked, and looked at
# status PATH: of the Release
status() { k get release web -o "jsonpath={.status.$1}"; }
comes() { # SECONDS PHASE…: it is in one of these phases
  local end=$((SECONDS + $1)) phase; shift
  while :; do
    phase=$(status phase); for wanted; do [ "$phase" != "$wanted" ] || return 0; done
    [ $SECONDS -lt $end ] || { status "" ; return 1; }; sleep 0.3
  done
}
# version V [FAILS]: what the user wants from now on
version() { k set env deployment/web "VERSION=$1" "FAILS=${2:-}" >/dev/null; theirs > "$W/before"; }
# Of each object of the user's all but what its own controllers write.
theirs() {
  k get deployment,service,httproute,poddisruptionbudget,configmap -o json | python3 -c '
import json, sys
for one in json.load(sys.stdin)["items"]:
    one.pop("status", None); meta = one["metadata"]
    for key in ("managedFields", "resourceVersion"): meta.pop(key, None)
    meta.get("annotations", {}).pop("deployment.kubernetes.io/revision", None)
    print(json.dumps(one, sort_keys=True))'
}
untouched() { theirs | diff "$W/before" -; }
# Whoever wrote anything in this namespace, but the kinds of the mesh, its own `tulle-roots`, and what routes say of themselves: their status.
writers() { k get deployment,replicaset,pod,service,endpointslice,httproute,poddisruptionbudget,configmap -o json --show-managed-fields | python3 -c '
import json, sys
print("\n".join(sorted({field["manager"] for one in json.load(sys.stdin)["items"] if one["metadata"]["name"] != "tulle-roots" for field in one["metadata"].get("managedFields", []) if field.get("subresource") != "status"})))'; }
nobody_else() { local who; who=$(writers 2>/dev/null); ! grep -i tulle <<<"$who" && [ "$who" ]; }
# pods VERSION: NAME READY of each
pods() { k get pod -l app=web -o json | python3 -c '
import json, sys
for pod in json.load(sys.stdin)["items"]:
    if pod["metadata"].get("deletionTimestamp") or {"name": "VERSION", "value": sys.argv[1]} not in pod["spec"]["containers"][0]["env"]: continue
    print(pod["metadata"]["name"], *(it["status"] for it in pod["status"].get("conditions", []) if it["type"] == "Ready"))' "$1"; }
first_of() { local name; read -r name _ <<<"$(pods "$1")"; echo "$name"; }
# ready VERSION COUNT: so many of it are ready; held VERSION COUNT: are there and are not
ready() { [ "$(pods "$1" | grep -c ' True$')" = "$2" ] || { pods "$1"; return 1; }; }
held() { [ "$(pods "$1" | grep -c ' False$')" = "$2" ] && ready "$1" 0 || { pods "$1"; return 1; }; }
client() { k exec client -c client -- sh -c "$1"; }
# mark: from here on its answers count. Nothing is cut off: curl writes them byte by byte, and would leave half a line.
mark() { client 'cd /tmp; for file in answers-*; do wc -l < $file > mark-$file; done'; }
# serves VERSION: it answers somebody, from now on
serves() { client 'for file in /tmp/versions-*; do : > $file; done'; eventually 15 client "grep -qx $1 /tmp/versions-*"; }
# What was answered since `mark`; a file's last line may not be whole yet.
answers() { client 'cd /tmp; for file in answers-*; do tail -n +$(($(cat mark-$file) + 1)) $file | sed "\$d"; done'; }
many() { answers > "$W/answers"; [ "$(wc -l < "$W/answers")" -gt 100 ]; }
# none_failed WHAT [MOST]: of what was asked since `mark` no request failed, or at most MOST by a 500 of the canary's
none_failed() {
  local all wrong other
  eventually 20 many
  all=$(wc -l < "$W/answers") wrong=$(grep -c '^500 ' "$W/answers" || true) other=$(grep -vc '^\(200\|500\) ' "$W/answers" || true)
  if [ "$other" = 0 ] && [ "$wrong" -le "${2:-0}" ]; then ok "$1: $((wrong + other)) of $all requests failed"
  else bad "$1: $((wrong + other)) of $all requests failed" "$(sort "$W/answers" | uniq -c | head)"; fi
}
# steps: what its history says of steps since the release of this version began, the oldest first
steps() { status history | python3 -c '
import json, sys
did = [one["did"] for one in json.load(sys.stdin)]
begun = next(at for at, one in enumerate(did) if one.startswith("release of"))
print(*reversed([one for one in did[:begun] if one.startswith("step")]), sep=", ")'; }
# follow: from now on, as a pipeline does; followed CODE: with this it ended
follow() { tulle release get release/web -w --exit --begin 1m --timeout 5m > "$W/followed" 2>&1 & following=$!; }
followed() {
  local code=0; wait "$following" || code=$?
  if [ "$code" = "$1" ]; then ok "who followed it was told: $code"; else bad "who followed it was told: $code" "$(cat "$W/followed")"; fi
}
holder() { system get lease tulle-control-plane -o 'jsonpath={.spec.holderIdentity}'; }
other() { local now; now=$(holder); [ -n "$now" ] && [ "$now" != "$old" ]; }
# kill_leader WHERE: as `kill -9` would; another one steers
kill_leader() {
  old=$(holder); system delete pod "$old" --grace-period=0 --force >/dev/null 2>&1
  check "leader killed $1: another one steers" eventually 40 other
}

check "nothing to release yet" comes 30 Idle

# --- a good version
mark; follow; version v2
check "a new version: a step begins" comes 40 Progressing
check "its pods are held by their own sidecars" held v2 2
soon "… which say so" "Release release/web" k logs "$(first_of v2)" -c tulle-proxy
check "all old ones are ready" ready v1 4
check "it serves" serves v2
check "Kubernetes sends it nothing" sh -c "kubectl -n release get endpointslice -l kubernetes.io/service-name=web -o json | python3 -c 'import json, sys; sys.exit(sum(it[\"conditions\"][\"ready\"] for one in json.load(sys.stdin)[\"items\"] for it in one[\"endpoints\"]) != 4)'"
check "it takes over" comes 90 Promoted; followed 0
check "the Deployment has finished" k rollout status deployment/web --timeout=60s
check "all are of the new version" ready v2 4
none_failed "a good version"
check "nothing of the user's was written" untouched

# --- a bad one, and the way back
mark; follow; version v3 2
check "a bad version is held" comes 60 Held; followed 3
says "it is said why" "errors" status reason
none_failed "a bad version" 60
mark; none_failed "nobody gets it any more"
check "the old ones are all there" ready v2 4
check "nothing of the user's was written" untouched
mark; k rollout undo deployment/web >/dev/null
check "undone: it is rolled back" comes 30 RolledBack
check "undone: the Deployment has finished" k rollout status deployment/web --timeout=60s
none_failed "undone"

# --- a wrong edit of it: what it said before goes on
edit() { k patch release web --type=json -p "[{\"op\": \"$1\", \"path\": \"/spec/steps/0/webhook\"${2:+, \"value\": \"$2\"}}]" >/dev/null; }
edit add nowhere
soon "a wrong edit is named" "wrong: Release release/web: spec.steps[0].webhook" tulle release get release/web
edit remove
mended() { ! grep -q wrong: <<<"$(tulle release get release/web)"; }
check "… until it is mended" eventually 20 mended

# --- what others do in the middle of one
mark; version v4
check "the next one: a step begins" comes 40 Progressing
check "it is paused" tulle release pause web -n release
k scale deployment/web --replicas=8 >/dev/null
theirs > "$W/before"
scaled() { local old new; old=$(pods v2 | grep -c ' True$') new=$(pods v4 | grep -c ' False$'); [ "$old" -ge 5 ] && [ "$new" -ge 3 ] && [ $((old + new)) = 12 ] || { pods v2; pods v4; return 1; }; }
check "scaled as an autoscaler does: both versions grow, the new one is held" eventually 60 scaled
lost=$(first_of v2) old_ready=$(pods v2 | grep -c ' True$'); k delete pod "$lost" --wait=false >/dev/null
replaced() { ! grep -q "^$lost " <<<"$(pods v2)" && ready v2 "$old_ready"; }
check "an old pod is lost: one of its version replaces it, and is ready" eventually 60 replaced
if [ "$OWN" ]; then
  check "a node is drained" kubectl drain "${nodes[1]}" --ignore-daemonsets --delete-emptydir-data --force --timeout=90s
  check "… the old version serves elsewhere" eventually 60 ready v2 "$old_ready"
  kubectl uncordon "${nodes[1]}" >/dev/null
else skip "drain of a node" "it would evict pods that are not this test's"; fi
none_failed "scaled, and pods that go"
check "still paused" comes 1 Paused
check "it goes on" tulle release resume web -n release
check "it takes over" comes 120 Promoted
check "the Deployment has finished" k rollout status deployment/web --timeout=60s
none_failed "scaled in the middle"
check "nothing of the user's was written" untouched

# --- whoever steers is killed at every step
k scale deployment/web --replicas=4 >/dev/null; check "four again" eventually 60 ready v4 4
mark; follow; version v5
kill_leader "before the first step"
in_step() { [ "$(status step)" = "$1" ]; }
check "… step 1" eventually 60 in_step 1; kill_leader "in step 1"
check "… step 2" eventually 60 in_step 2; kill_leader "in step 2"
check "… it takes over" comes 90 Promoting Promoted; kill_leader "while it takes over"
check "the same verdict" comes 90 Promoted; followed 0
says "each step once" "step 1 (10 %), step 2 (25 %)" steps
check "the Deployment has finished" k rollout status deployment/web --timeout=60s
none_failed "leader killed at every step"
mark; version v6 2
check "a bad one begins" comes 60 Progressing; kill_leader "while a bad one is tried"
check "the same verdict" comes 60 Held
none_failed "leader killed while a bad one is tried" 400
kill_leader "after it was held"
check "it is held still" comes 5 Held
check "… with its pods" held v6 2
check "nothing of the user's was written" untouched
mark; k rollout undo deployment/web >/dev/null
check "undone: it is rolled back" comes 30 RolledBack

# --- what comes while a version takes over, ten seconds for each two pods
k patch deployment web --type=merge -p '{"spec": {"minReadySeconds": 10}}' >/dev/null
check "the Deployment has finished" k rollout status deployment/web --timeout=60s
none_failed "undone"
ready_of() { pods "$1" | grep -c ' True$'; }
taking_over() { [ "$(ready_of "$1")" -ge 1 ] && [ "$(ready_of "$2")" -ge 1 ] || { pods "$1"; pods "$2"; return 1; }; }
version v7; check "it takes over" comes 60 Promoting
check "… some of its pods are ready" eventually 30 taking_over v7 v5
while read -r pod _; do k exec "$pod" -c web -- touch /tmp/broken; done < <(pods v7)
check "it fails then: it is held" comes 30 Held
let_in=$(ready_of v7)
stays() { for ((at = 0; at < 15; at++)); do [ "$(ready_of v7)" -le "$let_in" ] && taking_over v7 v5 || return 1; sleep 1; done; }
check "… no more of its pods are let in, the old ones stay" stays
says "… which is said" "no more pods of" tulle release get release/web -o json
k rollout undo deployment/web >/dev/null
check "undone: it is rolled back" comes 30 RolledBack
check "… all are of the old version" eventually 60 ready v5 4
mark; none_failed "undone in the middle"
check "the Deployment has finished" k rollout status deployment/web --timeout=60s
version v8; check "the next one takes over" comes 60 Promoting
check "… some of its pods are ready" eventually 30 taking_over v8 v5
version v9
check "another one in the middle of that: it waits" comes 30 Waiting Progressing
check "… it takes over" comes 120 Promoted
check "the Deployment has finished" k rollout status deployment/web --timeout=90s
check "all are of the newest version" ready v9 4
none_failed "another version in the middle of a promotion"
check "nothing of the user's was written" untouched

# --- nobody steers for a while
mark; version v10; check "a step begins" comes 40 Progressing
system scale deployment/tulle-control-plane --replicas=0 >/dev/null
away() { [ -z "$(system get pod -l app.kubernetes.io/name=tulle-control-plane -o name)" ]; }
check "the control plane is gone" eventually 60 away
check "the new version has its share all the same" serves v10
check "… and its pods are held" held v10 2
system scale deployment/tulle-control-plane --replicas=2 >/dev/null
check "it is back: the version takes over" comes 120 Promoted
none_failed "without control plane"

# --- the Release is taken away
mark
version v11; check "a step begins" comes 40 Progressing
k delete release web >/dev/null
check "without a Release the rollout goes on by itself" k rollout status deployment/web --timeout=60s
check "all are of the version that is wanted" eventually 30 ready v11 4
check "nobody but people and Kubernetes has written here" nobody_else

# --- a lane, by command
says "a lane is opened" "Lane release/pr-1 is there now" tulle lane open release/pr-1 --apply
says "… it was, the second time" "Lane release/pr-1 was there already" tulle lane open pr-1 -n release --apply
soon "… it is listed" pr-1 tulle lane list -n release
says "… closed" "Lane release/pr-1 is deleted" tulle lane close release/pr-1 --apply
refuses "… and gone" NotFound k get lane pr-1
[ "$failed" = 0 ] || { kubectl get pods -A -o wide; k get release web -o yaml; k logs client -c tulle-proxy | tail -n 20; system logs -l app.kubernetes.io/name=tulle-control-plane --prefix --tail=30; } || true
close
