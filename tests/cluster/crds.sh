#!/bin/bash
# crds.sh: our kinds on a real API server. Every object of crds.yaml is taken or refused with its message, nothing of a
# status is lost, and kubectl's texts and columns are there. Closes with how many passed and failed. With KUBECONFIG set on that cluster.
set -euo pipefail
NAME=${NAME:-crds}; KT=$(cd "$(dirname "$0")" && pwd); . "$KT/env.sh"; cd "$KT/../.."
. "$KT/checks.sh"
same() { [ "$1" = "$2" ] || { printf 'not\n%s\nbut\n%s\n' "$1" "$2"; return 1; }; }

"$KT/build.sh"
W=$(mktemp -d)
if [ -z "${KUBECONFIG:-}" ]; then
  trap '"$KT/down" "$NAME"; rm -rf "$W"' EXIT
  "$KT/down" "$NAME" >/dev/null; "$KT/up" "$NAME" --cp ${ID:+--id $ID}; export KUBECONFIG=$STATE/$NAME/kubeconfig
else
  there=$(kubectl get crd -o name | grep -F .tulle.dev; kubectl get namespace table --ignore-not-found -o name) || true
  [ -z "$there" ] || { printf '%s\n' "This cluster has what this test makes and deletes: it keeps off." "$there" >&2; exit 1; }
  trap 'kubectl delete --ignore-not-found namespace table >/dev/null; kubectl delete --ignore-not-found -f deploy/crds >/dev/null; rm -rf "$W"' EXIT
fi

# --- they are definitions that the API server can use
kubectl apply --server-side -f deploy/crds >/dev/null
check "established" kubectl wait --for=condition=Established -f deploy/crds --timeout=20s
structural() { same "" "$(kubectl get -f deploy/crds -o jsonpath='{range .items[*]}{.status.conditions[?(@.type=="NonStructuralSchema")].message}{end}')"; }
check "structural" structural
kubectl create namespace table >/dev/null

# --- the table
awk -v folder="$W" '/^---$/ { n++; next } n { print > sprintf("%s/%03d.yaml", folder, n) }' "$KT/crds.yaml"
for file in "$W"/*.yaml; do
  expected=$(sed -n '1s/^# //p' "$file")
  what="$(sed -n 's/^kind: //p' "$file") $(sed -n 's/^metadata: {name: \([^,}]*\).*/\1/p' "$file"): $expected"
  if said=$(kubectl create --dry-run=server -f "$file" 2>&1); then status=taken; else status=refused; fi
  case $expected in
    taken | "ours refuses "*) if [ $status = taken ]; then ok "$what"; else bad "$what" "$said"; fi ;;
    refused*)
      field=${expected#refused }; field=${field%%: *}; message=${expected#*: }
      if [ $status = refused ] && [[ $said == *"$message"* ]] && [[ $said == *"$field"* ]]; then ok "$what"; else bad "$what" "$status: $said"; fi ;;
    *) bad "$what" "the table's first line" ;;
  esac
done

# --- the documentation's examples
awk '/^```yaml$/ { if (n++) print "---"; on = 1; next } /^```$/ { on = 0 } on' docs/policy.md docs/telemetry.md | sed -E 's/namespace: (bookstore|tulle-system)/namespace: table/' > "$W/examples"
check "the documentation's examples" kubectl create --dry-run=server -f "$W/examples"

# --- defaults, and null is as good as left out
kubectl apply -f - >/dev/null <<'Y'
apiVersion: tulle.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: reviews, namespace: table}
spec: {targetRefs: [{group: '', kind: Service, name: reviews}], loadBalancing: {}, limits: null}
Y
field() { kubectl -n table get trafficpolicy reviews -o jsonpath="{.spec.$1}"; }
check "the default is filled in" same LeastRequest "$(field loadBalancing.policy)"
nobody() { printf 'apiVersion: tulle.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {name: nobody, namespace: table}\nspec: {}\n' | kubectl create --dry-run=server -o jsonpath='{.spec.mode}' -f -; }
check "an AccessPolicy is enforced by default" same Enforce "$(nobody)"
check "what merges has no default" same "" "$(field limits)$(field retries)"

# --- statuses, as control-plane/src/status/json.rs writes them
cat > "$W/status.json" <<'J'
{"status":{"inForce":"12/12","conditions":[{"type":"Accepted","status":"True","reason":"Accepted","message":"","lastTransitionTime":"2026-01-01T00:00:00Z","observedGeneration":1},{"type":"InForce","status":"True","reason":"InForce","message":"in force on 12 of 12 proxies","lastTransitionTime":"2026-01-01T00:00:00Z"}],"ancestors":[{"ancestorRef":{"group":"","kind":"Service","name":"reviews","namespace":"table","port":9080,"sectionName":"http"},"controllerName":"tulle.dev/mesh","conditions":[{"type":"Accepted","status":"True","reason":"Accepted","message":"","lastTransitionTime":"2026-01-01T00:00:00Z"},{"type":"ResolvedRefs","status":"True","reason":"ResolvedRefs","message":"","lastTransitionTime":"2026-01-01T00:00:00Z"}]}]}}
J
kubectl -n table patch trafficpolicy reviews --subresource=status --type=merge --patch-file "$W/status.json" >/dev/null
sorted() { python3 -c 'import json, sys; print(json.dumps(json.load(sys.stdin)["status"], sort_keys=True))'; }
check "nothing of a status is lost" same "$(sorted <"$W/status.json")" "$(kubectl -n table get trafficpolicy reviews -o json | sorted)"
check "kubectl wait sees it" kubectl -n table wait --for=condition=InForce trafficpolicy/reviews --timeout=5s
columns() { kubectl get "$@" | sed -n '1s/  */ /gp' | sed 's/ *$//'; }
check "columns" same "NAMESPACE NAME TARGET ACCEPTED IN FORCE AGE" "$(columns trafficpolicies -A)"
row() { kubectl -n table get tp --no-headers | awk '{print $1, $2, $3, $4}'; }
check "a row" same "reviews reviews True 12/12" "$(row)"
check "the category lists them" same trafficpolicy.tulle.dev/reviews "$(kubectl -n table get tulle -o name | grep trafficpolicy)"

# --- kubectl explain
explains() { local said; said=$(kubectl explain "$1"); [[ $said == *"$2"* ]] || { echo "$said"; return 1; }; }
check "explain tells of a budget" explains trafficpolicy.spec.retries.budget 'Retries in flight may be at most this share'
check "explain tells of statuses" explains meshtls.status.inForce 'On how many proxies it is in force'

close
