#!/bin/bash
# install.sh: `tulle install`, `upgrade` and `uninstall`, and the chart, on a real node with the images of this checkout. Every
# object is taken by the API server, every right is as little as it says, nothing is left. Closes with how many passed and failed.
# KEEP, KUBECONFIG: meshed.sh.
set -euo pipefail
NAME=${NAME:-install}; KT=$(cd "$(dirname "$0")" && pwd); . "$KT/env.sh"; cd "$KT/../.."
HELM=$("$KT/helm.sh")
. "$KT/checks.sh"; . "$KT/meshed.sh"
cluster 1 shop crew mesh
# kinds of Gateway API that were there before are nothing to try with, and stay
gateway=$(kubectl get crd -o name | grep -F .gateway.networking.k8s.io || true)

# everything that is in the cluster, without what changes by itself
everything() {
  local kinds; kinds=$(kubectl api-resources --verbs=list -o name | grep -vE '^(events|leases|componentstatuses|endpointslices|endpoints|pods|replicasets|controllerrevisions)' | sort | paste -sd,)
  kubectl get "$kinds" -A --no-headers -o custom-columns=KIND:.kind,NS:.metadata.namespace,NAME:.metadata.name | sort
}

# --- before anything is there
everything > "$W/before"
kubectl create namespace tulle-system >/dev/null
check "the API server takes every object of --dry-run" sh -c "'$PROGRAMS/tulle' install -f '$W/values.yaml' --dry-run | kubectl apply --dry-run=server -f -"
kubectl delete namespace tulle-system >/dev/null
refuses "nothing to upgrade" "there is no Tulle in namespace tulle-system" tulle upgrade -f "$W/values.yaml"
refuses "a wrong value is named" "controlPlane.replica: unknown field" tulle install --set controlPlane.replica=2
refuses "no cluster" "no cluster is known" tulle install --kubeconfig "$W/none"

# --- install: an old kind of Gateway API stays what it is
version() { kubectl get crd "$1.gateway.networking.k8s.io" -o jsonpath='{.metadata.annotations.gateway\.networking\.k8s\.io/bundle-version}'; }
if [ -z "$gateway" ]; then
  sed 's/bundle-version: v1.6.3/bundle-version: v1.0.0/' deploy/gateway-api/tcproutes.yaml | kubectl create -f - >/dev/null
  says "install: what is there of Gateway API is left alone" "tcproutes.gateway.networking.k8s.io is there, v1.0.0 (Tulle brings v1.6.3): left alone" tulle install -f "$W/values.yaml" --timeout 120s
  check "install: the others are brought" test "$(version tcproutes) $(version httproutes)" = "v1.0.0 v1.6.3"
else
  skip "install: an old kind of Gateway API stays" "some of Gateway API is in this cluster"
  check "tulle install" tulle install -f "$W/values.yaml" --timeout 120s
fi
says "install: the control plane serves" '"availableReplicas":1,' kubectl -n tulle-system get deployment tulle-control-plane -o jsonpath='{.status}'
says "install: again, nothing changes" "objects stay as they are" tulle install -f "$W/values.yaml" --timeout 60s
nothing_changes() { ! tulle upgrade -f "$W/values.yaml" --dry-run | grep -E '^  (create|change|delete)'; }
check "install: again, and nothing would change" nothing_changes

# --- the webhook is there, and does what `tulle inject --from-cluster` does
webhooks() { kubectl get mutatingwebhookconfiguration tulle-injector -o jsonpath='{.webhooks[*].name}' | grep -q .; }
check "the control plane fills in its webhooks" eventually 20 webhooks
kubectl create namespace shop >/dev/null; kubectl label namespace shop tulle.dev/inject=enabled >/dev/null
cat > "$W/pod.yaml" <<Y
{apiVersion: v1, kind: Pod, metadata: {name: app, namespace: shop, labels: {app: app}, annotations: {tulle.dev/proxy-log-level: debug}},
 spec: {containers: [{name: app, image: "registry.local/busybox:1", imagePullPolicy: Never, ports: [{containerPort: 80}]}]}}
Y
# pod FILE: as the API server would keep it, without what is random
# (the ServiceAccount's volume comes before ours or after)
pod() { kubectl create --dry-run=server -o json -f "$1" | python3 -c 'import json, sys; pod = json.load(sys.stdin); pod["spec"]["volumes"].sort(key=lambda v: v["name"][:10]); json.dump(pod, sys.stdout, indent=1, sort_keys=True)' | sed -E 's/kube-api-access-[a-z0-9]+/kube-api-access/; s/[0-9a-f]{32}/KEY/g; /"(uid|creationTimestamp)":/d'; }
same() {
  tulle inject -f "$W/pod.yaml" --from-cluster > "$W/injected.yaml"; pod "$W/pod.yaml" > "$W/by-webhook"
  kubectl label namespace shop tulle.dev/inject=disabled --overwrite >/dev/null; pod "$W/injected.yaml" > "$W/by-tulle"
  grep -q '"name": "tulle-proxy"' "$W/by-webhook" && diff "$W/by-webhook" "$W/by-tulle"
}
check "the webhook makes the pod that tulle inject --from-cluster makes" same

# --- what containers have together, quotas and LimitRanges: the API server takes pods with a sidecar as it takes them without
# limited POD-LEVEL CONTAINER ANNOTATION: a pod with these resources
limited() { echo "---"; echo "{apiVersion: v1, kind: Pod, metadata: {name: limited, namespace: shop, annotations: {tulle.dev/proxy-log-level: info $3}}, spec: {$1 containers: [{name: app, image: 'registry.local/busybox:1', imagePullPolicy: Never, resources: $2}]}}"; }
# admitted INJECT ARGUMENTS: by the webhook, or injected before
admitted() {
  local how=$1; shift; limited "$@" > "$W/limited.yaml"
  [ "$how" = webhook ] || { tulle inject -f "$W/limited.yaml" --from-cluster > "$W/limited-injected.yaml"; mv "$W/limited-injected.yaml" "$W/limited.yaml"; }
  kubectl create --dry-run=server -o name -f "$W/limited.yaml" && kubectl create --dry-run=server -o json -f "$W/limited.yaml" | grep -q '"name": "tulle-proxy"'
}
kubectl label namespace shop tulle.dev/inject=enabled --overwrite >/dev/null
full='{requests: {cpu: 100m, memory: 64Mi}, limits: {cpu: 200m, memory: 64Mi}}'
if [ "$(kubectl version -o json | python3 -c 'import json, sys; print(int(json.load(sys.stdin)["serverVersion"]["minor"].rstrip("+")))')" -ge 34 ]; then
  for how in webhook file; do
    check "pod-level resources, all of them the containers' ($how)" admitted $how "resources: $full," "$full" ""
    check "pod-level limits, requests of a container ($how)" admitted $how "resources: {limits: {cpu: 200m, memory: 64Mi}}," '{requests: {cpu: 100m, memory: 64Mi}}' ""
    check "pod-level limits alone ($how)" admitted $how "resources: {limits: {cpu: 5m, memory: 8Mi}}," '{}' ""
    check "pod-level requests alone ($how)" admitted $how "resources: {requests: {cpu: 5m, memory: 8Mi}}," '{}' ""
  done
  check "the request of pods with limits alone is the limit" test "$(limited "resources: {limits: {cpu: 500m, memory: 64Mi}}," '{}' "" | tulle inject -f - --from-cluster | kubectl create --dry-run=server -o 'jsonpath={.spec.resources.requests.cpu} {.spec.resources.requests.memory}' -f -)" = "500m 64Mi"
else
  skip "pod-level resources" "they are of Kubernetes 1.34"
fi
kubectl create -f - <<<$'---\n{apiVersion: v1, kind: ResourceQuota, metadata: {name: limits, namespace: shop}, spec: {hard: {limits.cpu: "8", limits.memory: 8Gi, requests.cpu: "8", requests.memory: 8Gi}}}' >/dev/null
counts() { kubectl -n shop get resourcequota limits -o jsonpath='{.status.hard}' | grep -q cpu; }
check "a quota counts" eventually 20 counts
refuses "a quota on CPU limits refuses a sidecar without one" "must specify limits.cpu for: tulle-proxy,tulle-redirect" admitted webhook "" "$full" ""
check "with the annotation it does not" admitted webhook "" "$full" ', tulle.dev/proxy-cpu-limit: 500m'
kubectl create -f - <<<$'---\n{apiVersion: v1, kind: LimitRange, metadata: {name: defaults, namespace: shop}, spec: {limits: [{type: Container, default: {cpu: "1"}}]}}' >/dev/null
check "nor with a LimitRange that has a default" eventually 20 admitted webhook "" "$full" ""
kubectl -n shop delete resourcequota/limits limitrange/defaults >/dev/null

# --- what the control plane may do, and what not
may() { kubectl auth can-i "$@" --as=system:serviceaccount:tulle-system:tulle-control-plane -q; }
may_not() { ! may "$@"; }
for right in "watch pods -A" "watch nodes" "watch replicasets.apps -A" "create events.events.k8s.io -n shop" "watch httproutes.gateway.networking.k8s.io -A" "patch httproutes.gateway.networking.k8s.io --subresource=status -n shop" \
  "patch trafficpolicies.tulle.dev --subresource=status -n shop" "create tokenreviews.authentication.k8s.io" "patch configmaps/tulle-roots -n shop" "get secrets/tulle-ca -n tulle-system" "create configmaps/tulle-roots -n shop" \
  "patch mutatingwebhookconfigurations/tulle-injector" "update leases.coordination.k8s.io/tulle-control-plane -n tulle-system"; do
  check "it may $right" may $right
done
for right in "get secrets -n shop" "list secrets -A" "get secrets/other -n tulle-system" "patch configmaps/other -n shop" "delete configmaps/tulle-roots -n shop" \
  "patch httproutes.gateway.networking.k8s.io -n shop" "patch mutatingwebhookconfigurations/other" "create mutatingwebhookconfigurations" "create pods -n shop" "get pods/log -n shop" "create configmaps -n shop" "get configmaps/other -n shop" "update httproutes.gateway.networking.k8s.io --subresource=status -n shop" "delete secrets/tulle-ca -n tulle-system"; do
  check "it may not $right" may_not $right
done

# --- upgrade
says "upgrade: says the field that would change" "spec.replicas: 1 → 2" tulle upgrade -f "$W/values.yaml" --set controlPlane.replicas=2 --dry-run
says "upgrade: another trust domain, because it is said" "trust-domain=example.org" tulle upgrade -f "$W/values.yaml" --set trustDomain=example.org --dry-run
refuses "upgrade: and not one that nobody has said" "write \`trustDomain: cluster.local\` into your values" tulle upgrade -f "$W/values.yaml" --set 'controlPlane.extraArgs=[--trust-domain=example.org]' --dry-run
says "upgrade: brings what is wanted now" "create  NetworkPolicy tulle-system/tulle-control-plane" tulle upgrade -f "$W/values.yaml" --set networkPolicy.enabled=true --timeout 60s
says "upgrade: removes what is wanted no more" "delete  NetworkPolicy tulle-system/tulle-control-plane" tulle upgrade -f "$W/values.yaml" --timeout 60s
refuses "upgrade: it is gone" "NotFound" kubectl -n tulle-system get networkpolicy tulle-control-plane
monitors="--set podMonitor.enabled=true --set podMonitor.labels.release=prometheus"
refuses "upgrade: PodMonitors without the operator's kinds" "install the Prometheus operator's kinds first" tulle upgrade -f "$W/values.yaml" $monitors
kubectl create -f - >/dev/null <<Y
{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: podmonitors.monitoring.coreos.com}, spec: {group: monitoring.coreos.com, scope: Namespaced, names: {kind: PodMonitor, plural: podmonitors},
 versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, x-kubernetes-preserve-unknown-fields: true}}}}}]}}
Y
kubectl wait --for=condition=established crd/podmonitors.monitoring.coreos.com --timeout 20s >/dev/null
says "upgrade: PodMonitors with them" "create  PodMonitor tulle-system/tulle-proxy" tulle upgrade -f "$W/values.yaml" $monitors --timeout 60s
check "upgrade: with the labels that are wanted" test "$(kubectl -n tulle-system get podmonitors -l release=prometheus -o name | wc -l)" = 2
says "upgrade: and none when they are not wanted" "delete  PodMonitor tulle-system/tulle-proxy" tulle upgrade -f "$W/values.yaml" --timeout 60s
kubectl delete crd podmonitors.monitoring.coreos.com >/dev/null
kubectl -n tulle-system annotate service tulle-control-plane team=mesh >/dev/null
kubectl -n tulle-system patch deployment tulle-control-plane --field-manager=somebody -p '{"spec":{"minReadySeconds":1,"replicas":2}}' >/dev/null
refuses "upgrade: somebody else's field is a conflict" "--force-conflicts takes such fields over" tulle upgrade -f "$W/values.yaml"
says "upgrade: which can be taken over" "spec.replicas: 2 → 1" tulle upgrade -f "$W/values.yaml" --force-conflicts --timeout 60s
check "upgrade: the webhooks stay" webhooks
check "upgrade: what others set beside ours stays" test "$(kubectl -n tulle-system get service tulle-control-plane -o jsonpath='{.metadata.annotations.team}')" = mesh
kubectl -n tulle-system patch deployment tulle-control-plane --field-manager=somebody -p '{"spec":{"minReadySeconds":0}}' >/dev/null

# --- uninstall
kubectl create namespace crew >/dev/null
kubectl -n crew create configmap tulle-roots --from-literal=roots.pem= >/dev/null; kubectl -n crew label configmap tulle-roots app.kubernetes.io/managed-by=tulle-control-plane >/dev/null
kubectl -n shop create configmap mine --from-literal=a=b >/dev/null
kubectl -n shop create -f - >/dev/null <<Y
{apiVersion: v1, kind: Pod, metadata: {name: meshed, annotations: {tulle.dev/injected: "0"}}, spec: {containers: [{name: a, image: "registry.local/pause:1", imagePullPolicy: Never}]}}
Y
# one that has ended, as a Job's that is kept; no kubelet has it, which would say otherwise
kubectl -n shop create -f - >/dev/null <<Y
{apiVersion: v1, kind: Pod, metadata: {name: ended, annotations: {tulle.dev/injected: "0"}}, spec: {schedulerName: nobody, containers: [{name: a, image: "registry.local/pause:1"}]}}
Y
kubectl -n shop patch pod ended --subresource=status --type=merge -p '{"status":{"phase":"Succeeded"}}' >/dev/null
kubectl create -f - >/dev/null <<Y
{apiVersion: tulle.dev/v1alpha1, kind: MeshTLS, metadata: {name: strict, namespace: shop}, spec: {mode: Strict}}
Y
refuses "uninstall: refuses while pods have sidecars, and names them" "  shop/meshed" tulle uninstall
refuses "uninstall: says when their certificates end" "certificates end 24h from now at the latest" tulle uninstall
check "uninstall: nothing was removed by that" kubectl -n tulle-system get deployment tulle-control-plane
ended() { tulle uninstall 2>&1 | has shop/ended; }
check "uninstall: a pod that has ended is no reason" fails ended
# not one that the upgrades have left on its way out
pod=$(kubectl -n tulle-system get pod -l app.kubernetes.io/name=tulle-control-plane -o 'go-template={{range .items}}{{if not .metadata.deletionTimestamp}}{{.metadata.name}}{{"\n"}}{{end}}{{end}}' | sed -n 1p)
finalizers() { kubectl -n tulle-system patch pod "$pod" --type=merge -p "{\"metadata\":{\"finalizers\":$1}}" >/dev/null; }
finalizers '["example.org/lost"]' # as on a node that does not answer
refuses "uninstall --force: what does not go is named" "  Pod tulle-system/$pod" tulle uninstall --force --timeout 5s
refuses "… and holds up nothing else" "NotFound" kubectl get clusterrole tulle-control-plane
finalizers '[]'
says "uninstall --force" "Tulle is removed" tulle uninstall --force
refuses "uninstall: the namespace is gone" "NotFound" kubectl get namespace tulle-system
refuses "uninstall: the webhook is gone" "NotFound" kubectl get mutatingwebhookconfiguration tulle-injector
check "uninstall: roots are gone" test -z "$(kubectl get configmap -A --no-headers --field-selector metadata.name=tulle-roots 2>/dev/null)"
check "uninstall: your namespace is as it was" test "$(kubectl get namespace shop -o jsonpath='{.metadata.labels.tulle\.dev/inject}') $(kubectl -n shop get configmap mine -o jsonpath='{.data.a}')" = "enabled b"
check "uninstall: policy stays" kubectl -n shop get meshtls strict
says "uninstall --crds: once more is no mistake" "Tulle is removed" tulle uninstall --force --crds
kubectl delete namespace shop crew >/dev/null
[ "$gateway" ] || kubectl delete -f deploy/gateway-api >/dev/null # these stay, as they must: the rest is to be compared
everything > "$W/after"
check "uninstall: the cluster is as before" diff "$W/before" "$W/after"

# --- a certificate authority of the user's own
kubectl create namespace tulle-system >/dev/null; kubectl -n tulle-system create secret generic tulle-ca --from-literal=mine=1 >/dev/null
tulle install -f "$W/values.yaml" --no-wait >/dev/null
says "uninstall: a certificate authority of yours stays" "the certificate authority is yours" tulle uninstall
check "uninstall: with its namespace" kubectl -n tulle-system get secret tulle-ca
kubectl delete namespace tulle-system >/dev/null

# --- Helm
refuses "helm does not take over our kinds by itself" "exists and cannot be imported" "$HELM" install tulle deploy/chart -n mesh --create-namespace -f "$W/values.yaml"
check "helm install" "$HELM" install tulle deploy/chart -n mesh --create-namespace --take-ownership -f "$W/values.yaml" --wait --timeout 120s
refuses "one mesh in a cluster" "Tulle is in namespace mesh of this cluster, not in tulle-system" tulle install -f "$W/values.yaml"
refuses "one mesh in a cluster: nor is it removed by mistake" "use --namespace mesh" tulle uninstall
refuses "helm's is left to helm" "use \`helm upgrade tulle -n mesh\`" tulle upgrade -n mesh -f "$W/values.yaml"
check "helm: the control plane fills in its webhooks" eventually 20 webhooks
check "helm upgrade" "$HELM" upgrade tulle deploy/chart -n mesh -f "$W/values.yaml" --set networkPolicy.enabled=true --wait --timeout 120s
check "helm upgrade: the webhooks stay" webhooks
refuses "helm's is left to helm to remove" "use \`helm uninstall tulle -n mesh\`" tulle uninstall -n mesh
check "helm uninstall" "$HELM" uninstall tulle -n mesh
check "helm uninstall keeps our kinds" kubectl get crd meshtls.tulle.dev

[ "$failed" = 0 ] || { kubectl get pods -A -o wide; kubectl -n tulle-system logs deploy/tulle-control-plane | tail -20; } || true
close
