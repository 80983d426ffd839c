#!/bin/bash
# days.sh [DAY…]: the mesh lives in its cluster. Under a load between pods that serve already, of GET and POST on kept connections
# and on new ones, its bad days come one after the other: none of the requests may fail, and afterwards all goes on as
# before. Closes with how many passed and failed. PODS=n: so many come at once; OLDER=COMMIT: that one's sidecar is built and
# tried; KEEP, REUSE, KUBECONFIG: meshed.sh.
set -euo pipefail
NAME=${NAME:-days} PODS=${PODS:-100}; DAYS=${*:-leader_loss etcd_pause outage upgrades skew older drain crowd}
KT=$(cd "$(dirname "$0")" && pwd); . "$KT/env.sh"; cd "$KT/../.."
. "$KT/checks.sh"; REPLICAS=2; . "$KT/meshed.sh"
HELM=$("$KT/helm.sh")
k() { kubectl -n days "$@"; }
system() { kubectl -n tulle-system "$@"; }
remove() { "$HELM" uninstall tulle -n tulle-system || tulle uninstall --force --crds; }
helm() { local what=$1; shift; "$HELM" "$what" tulle deploy/chart -n tulle-system -f "$W/values.yaml" --wait --timeout 90s "$@"; }
webhooks() { contains "$1 $1" kubectl get mutatingwebhookconfiguration tulle-injector -o 'jsonpath={.webhooks[*].failurePolicy}'; }

cluster 2 days
# The client is where the cluster's DNS is; the other node is drained.
first=$(kubectl -n kube-system get pod -l k8s-app=kube-dns -o 'jsonpath={.items[0].spec.nodeName}')
mapfile -t nodes < <(echo "$first"; kubectl get nodes -o name | sed 's|^node/||' | grep -vx "$first")
[ "${REUSE:-}" ] || check "tulle install" tulle install -f "$W/values.yaml" --timeout 90s
check "two replicas, and the webhook" eventually 30 webhooks Fail

# --- the load: it never ends; `mark` begins to count it
kinds="get get-new post post-new"
sed "s/@FIRST@/$first/" "$KT/days/shop.yaml" | kubectl apply -f - >/dev/null
check "server and client are ready" eventually 60 k wait --for=condition=Ready pod -l 'app in (server,client)' --timeout=1s
counts() { k exec client -c client -- sh -c "cd /tmp; for kind in $kinds; do cat \$kind 2>/dev/null | wc -l; done" | xargs; }
grown() { # LEAST COUNTS…: each kind by so many at least
  local least=$1 now i=0; shift; now=($(counts)); [ ${#now[@]} = 4 ] || return 1
  for before; do [ $((now[i] - before)) -ge "$least" ] || return 1; i=$((i + 1)); done
}
mark() { marked=$(eventually 30 counts && counts); }
# none_failed WHAT: of what was asked since `mark`. What is on its way now has its answer when the next two are there.
none_failed() {
  local now ask kind i=0 from=($marked) answers=0 wrong; now=$(eventually 30 counts && counts)
  eventually 40 grown 2 $now || { bad "$1: the load goes on"; return; }
  now=($(counts)) ask=
  for kind in $kinds; do
    ask+="tail -n +$((from[i] + 1)) /tmp/$kind | head -n $((now[i] - from[i])) | grep -v '^200 ' | sed 's/^/$kind: /'; "
    answers=$((answers + now[i] - from[i])) i=$((i + 1))
  done
  k exec client -c client -- sh -c "$ask" > "$W/wrong"
  wrong=$(wc -l < "$W/wrong")
  if [ "$wrong" = 0 ] && [ "$answers" -gt 100 ]; then ok "$1: 0 of $answers requests failed"; else bad "$1: $wrong of $answers requests failed" "$(sort "$W/wrong" | uniq -c | head)"; fi
}
check "the load begins" eventually 30 grown 5 0 0 0 0

# --- what an operator does: a policy is edited, and is in force
seconds=10
edit() { seconds=$((seconds + 1)); k patch trafficpolicy server --type=merge -p "{\"spec\":{\"timeouts\":{\"request\":\"${seconds}s\"}}}"; }
in_force() { eventually 30 edit && k get trafficpolicy server -o yaml | tulle wait -f - --timeout 20s; }
check "a policy is in force" in_force

two() { [ "$(system get pods -o name | wc -l)" = 2 ]; }
# --- pods come and go: each is asked about as it would be, and made without trace
for i in $(seq 10); do printf -- '---\n{apiVersion: v1, kind: Pod, metadata: {name: churn-%s, namespace: days}, spec: {containers: [{name: app, image: "registry.local/pause:1"}]}}\n' "$i"; done > "$W/pods.yaml"
churn() {
  rm -f "$W/enough"; : > "$W/injected"; : > "$W/refused"
  ( while [ -d "$W" ] && [ ! -e "$W/enough" ]; do kubectl create --dry-run=server -f "$W/pods.yaml" -o 'jsonpath={.metadata.name} {.spec.initContainers[*].name}{"\n"}' >> "$W/injected" 2>> "$W/refused" || true; sleep 0.1; done ) &
  churner=$!
}
# none_refused WHAT: until the replicas that were there before have ended
none_refused() {
  check "$1: the old replicas are gone" eventually 30 two
  touch "$W/enough"; wait "$churner"
  local pods without refused; pods=$(wc -l < "$W/injected") without=$(grep -vc tulle-proxy "$W/injected" || true) refused=$(wc -l < "$W/refused")
  if [ "$without$refused" = 00 ] && [ "$pods" -ge 30 ]; then ok "$1: each of $pods pods got its sidecar"
  else bad "$1: of $pods pods $without without sidecar, $refused refused" "$(sed 's/churn-[0-9]*/churn/' "$W/refused" | sort | uniq -c | sort -rn | head -n 5)"; fi
}

# --- the replica that writes is lost
holder() { system get lease tulle-control-plane -o 'jsonpath={.spec.holderIdentity}'; }
other() { local now; now=$(holder); [ -n "$now" ] && [ "$now" != "$old" ]; }
leader_loss() {
  soon "a replica holds the Lease" tulle-control-plane- holder
  mark; old=$(holder); system delete pod "$old" --grace-period=0 --force >/dev/null 2>&1
  check "leader loss: another replica takes the Lease" eventually 40 other
  check "leader loss: an edit is in force" in_force
  none_failed "leader loss"
}

# --- etcd hangs
etcd() { "$KT/in" "$NAME" 1 kill "$1" "$(awk '$2 == "etcd" {print $1}' "$S/node1/pids" | tail -n 1)"; }
etcd_pause() {
  [ "$OWN" ] || { skip "etcd pause" "etcd of this cluster is not for a test to stop"; return; }
  mark; etcd -STOP
  check "etcd hangs" fails kubectl get --raw /readyz --request-timeout=2s
  sleep 18; etcd -CONT
  check "etcd pause: the API server answers" eventually 30 kubectl get --raw /readyz
  check "etcd pause: an edit is in force" in_force
  none_failed "etcd pause of 20 s"
}

# --- nobody answers the webhook, which pods need
replicas() { system scale deployment tulle-control-plane --replicas="$1" >/dev/null; }
gone() { [ -z "$(system get pods -l app.kubernetes.io/name=tulle-control-plane -o name)" ]; }
refusal() { k get replicaset -l app=late -o 'jsonpath={.items[*].status.conditions[?(@.type=="ReplicaFailure")].message}'; }
sidecar() { k get pod -l "app=$1" -o 'jsonpath={.items[*].spec.initContainers[*].name}' | grep -q tulle-proxy; }
outage() {
  mark; replicas 0; check "outage: there is no control plane" eventually 30 gone
  refuses "outage: a pod is refused, and it says what to do" "run-tulle-check" k run refused --image=registry.local/pause:1 --image-pull-policy=Never
  check "outage: elsewhere pods start as ever" kubectl -n default run elsewhere --dry-run=server --image=registry.local/pause:1
  kubectl apply -f "$KT/days/late.yaml" >/dev/null
  soon "outage: a Deployment's pods too" "run-tulle-check" refusal
  replicas 2; check "outage: it ends" system rollout status deployment/tulle-control-plane --timeout=60s
  check "outage: what was refused comes by itself" eventually 60 k rollout status deployment/late --timeout=1s
  check "outage: with its sidecar" sidecar late
  check "outage: an edit is in force" in_force
  none_failed "webhook outage"
}

# --- the control plane's pods are replaced while others come
upgrades() {
  mark; churn; system rollout restart deployment/tulle-control-plane >/dev/null
  check "control plane's rollout: it ends" system rollout status deployment/tulle-control-plane --timeout=60s
  none_refused "control plane's rollout"
  check "control plane's rollout: an edit is in force" in_force
  none_failed "control plane's rollout"
  mark; churn; check "tulle upgrade" tulle upgrade -f "$W/values.yaml" --set injection.webhook.failurePolicy=Ignore --timeout 90s
  check "tulle upgrade: pods need no sidecar now" eventually 30 webhooks Ignore
  none_refused "tulle upgrade"
  # nobody answers the webhook, and pods go without
  replicas 0; check "Ignore: there is no control plane" eventually 30 gone
  k run bare --labels=app=bare --image=registry.local/pause:1 --image-pull-policy=Never >/dev/null
  check "Ignore: a pod starts" eventually 30 k wait --for=condition=Ready pod/bare --timeout=1s
  check "Ignore: without a sidecar" fails sidecar bare
  replicas 2; check "Ignore: the control plane is back" system rollout status deployment/tulle-control-plane --timeout=60s
  soon "Ignore: an Event names the pod" "it runs without a sidecar" k get events --field-selector=involvedObject.name=bare,reason=NotInjected
  check "Helm takes over what tulle installed" helm install --take-ownership --force-conflicts --set injection.webhook.failurePolicy=Ignore
  churn; check "helm upgrade" helm upgrade --force-conflicts
  check "helm upgrade: pods need a sidecar" eventually 30 webhooks Fail
  none_refused "helm upgrade"
  none_failed "two upgrades, and an outage with Ignore"
}

# --- sidecars of other kinds: with a clock that is off, and of another day
# proxy TAG PROGRAM: an image of a sidecar
proxy() {
  local tree=$W/$1; install -D "$2" "$tree/usr/bin/${3:-tulle-proxy}"; strip --strip-debug "$tree/usr/bin/${3:-tulle-proxy}"
  install -D -m 644 /etc/ssl/certs/ca-certificates.crt "$tree/etc/ssl/certs/ca-certificates.crt"
  python3 deploy/images/pack.py "$W/$1.tar" "registry.local/tulle-proxy:$1" "$tree" --dockerfile deploy/images/Dockerfile --target tulle-proxy >/dev/null
  load_images "$W/$1.tar"
}
# peer NAME TAG: the pod with that sidecar, as it would be injected; not by the settings of the cluster, which an older `tulle`
# need not know
peer() { sed "s/@NAME@/$1/g" "$KT/days/peer.yaml" | tulle inject -f - --image-registry registry.local --image-tag dev --image-pull-policy Never | kubectl set image --local -f - "tulle-proxy=registry.local/tulle-proxy:$2" -o yaml; }
# meshed NAME: it got its certificate, serves by it and calls by it
meshed() {
  check "$1: it has its certificate, and is ready" eventually 60 k wait --for=condition=Ready "pod/$1" --timeout=1s
  # The client's sidecar has never been asked for it: while the control plane has much to do, its answer may take more than the second
  # that a connection waits.
  soon "$1: it serves" "hello-from-$1" k exec client -c client -- curl -sS -m 5 "http://$1:8080/index.html"
  says "$1: it calls" hello-from-server k exec "$1" -c app -- curl -sS -m 5 http://server:8080/index.html
  check "$1: both by mTLS" eventually 10 both "$1"
}
both() { k logs "$1" -c tulle-proxy > "$W/said"; for way in inbound outbound; do has "\"direction\":\"$way\"" '"peer":"spiffe://cluster.local/ns/days/sa/default"' < "$W/said" || return 1; done; }
# off NAME SECONDS: by what its log says the clock is off by so much
off() {
  local said; said=$(k logs "$1" -c tulle-proxy | sed -n 's/^{"time":"\([^"]*\)".*/\1/p' | tail -n 1); said=$(($(date -d "$said" +%s) - $(date +%s) - $2))
  [ "$said" -ge -30 ] && [ "$said" -le 2 ] || { echo "it is $said s more than that"; return 1; }
}
skew() {
  [ "$(uname -m)" = x86_64 ] || { skip "a pod whose clock is off" "tests/cluster/skew knows amd64 only"; return; }
  local skew
  install -d "$W/skewed/usr/bin"; (cd "$KT/skew"; go build -trimpath -ldflags "-s -w" -o "$W/skewed/usr/bin/tulle-proxy" .)
  proxy skewed "$PROGRAMS/tulle-proxy" unskewed
  mark
  for skew in ahead=300 behind=-300; do
    peer "${skew%=*}" skewed | kubectl set env --local -f - -c tulle-proxy "SKEW=${skew#*=}" -o yaml | kubectl apply -f - >/dev/null
  done
  for skew in ahead=300 behind=-300; do meshed "${skew%=*}"; check "${skew%=*}: its clock is 5 minutes off" off "${skew%=*}" "${skew#*=}"; done
  none_failed "a clock that is off"
}

# An older sidecar, as the older injection made its pod, against the control plane of today: of the last commit that passed here
# (its program and its YAML are kept), or of OLDER=COMMIT, which is built for it; where nothing is kept, of the commit before.
KEPT=$CACHE/older; commit=$(git rev-parse --short=12 HEAD)
older() {
  local built older
  older=$(ls -t "$KEPT" 2>/dev/null | grep -vx "$commit" | head -n 1) || older=
  [ "$older" ] || OLDER=${OLDER:-$(git rev-parse --verify --quiet HEAD~1)} || true
  if [ "${OLDER:-}" ]; then
    git worktree add --force --detach "$W/tree" "$OLDER" >/dev/null 2>&1
    (cd "$W/tree"; cargo build --quiet --workspace --bin tulle-proxy --bin tulle --target-dir "$W/target")
    built=$(echo "$W"/target/*/debug); older=$(git rev-parse --short=12 "$OLDER"); mkdir -p "$KEPT/$older"
    cp "$built/tulle-proxy" "$KEPT/$older/"; PROGRAMS=$built peer older older > "$KEPT/$older/older.yaml"
    git worktree remove --force "$W/tree"
  fi
  if [ "$older" ]; then
    proxy older "$KEPT/$older/tulle-proxy"
    mark; kubectl apply -f "$KEPT/$older/older.yaml" >/dev/null
    meshed older
    check "older: an edit is in force on it too" in_force
    none_failed "a sidecar of $older"
  else skip "an older sidecar" "this clone has no history; OLDER=COMMIT builds the sidecar of another commit"; fi
}

# --- a node is drained
drain() {
  [ "$OWN" ] || { skip "drain of a node" "it would evict pods that are not this test's"; return; }
  mark; check "drain" kubectl drain "${nodes[1]}" --ignore-daemonsets --delete-emptydir-data --force --timeout=90s
  check "drain: all serve elsewhere" eventually 60 k rollout status deployment/server --timeout=1s
  check "drain: an edit is in force" in_force
  none_failed "drain"
  kubectl uncordon "${nodes[1]}" >/dev/null
}

# --- many pods at once
cpu() { # of the control plane so far, in ms
  for node in "${nodes[@]}"; do
    kubectl get --raw "/api/v1/nodes/$node/proxy/stats/summary" | python3 -c 'import json, sys; print(sum(pod["cpu"]["usageCoreNanoSeconds"] for pod in json.load(sys.stdin)["pods"] if pod["podRef"]["namespace"] == "tulle-system") // 10**6)'
  done | awk '{ms += $1} END {print ms}'
}
restarts() { k get pod -l app=crowd -o 'jsonpath={range .items[*]}{.status.initContainerStatuses[*].restartCount} {.status.containerStatuses[*].restartCount} {end}' | tr ' ' '\n' | grep -vc '^0*$'; }
crowd() {
  local used start
  mark; used=$(cpu) start=$SECONDS
  sed "s/@PODS@/$PODS/" "$KT/days/crowd.yaml" | kubectl apply -f - >/dev/null
  check "$PODS pods at once: all are ready" k rollout status deployment/crowd --timeout=180s
  echo "     after $((SECONDS - start)) s, of which the control plane used $(($(cpu) - used)) ms of processor time"
  check "$PODS pods at once: none had to start again" fails restarts
  check "$PODS pods at once: an edit is in force" in_force
  none_failed "$PODS pods at once"
}

for day in $DAYS; do "$day"; done

# what is newer tomorrow
if [ "$failed$OWN" = 01 ] && [ -z "$(git status --porcelain)" ]; then
  mkdir -p "$KEPT/$commit"; strip --strip-debug -o "$KEPT/$commit/tulle-proxy" "$PROGRAMS/tulle-proxy"; peer older older > "$KEPT/$commit/older.yaml"
  ls -dt "$KEPT"/*/ | tail -n +4 | xargs -r rm -rf
fi
[ "$failed" = 0 ] || { kubectl get pods -A -o wide; k get events | tail -n 20; k logs client -c tulle-proxy | tail -n 20; system logs deploy/tulle-control-plane | tail -n 30; } || true
close
