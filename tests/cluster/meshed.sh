# Sourced by what needs a cluster and the images of this checkout in it: a cluster of its own, taken down at the end, or, with
# KUBECONFIG set, the reader's (README.md says what that needs). Sets OWN (empty on the reader's), S, W, KUBECONFIG.
# KEEP=1 leaves a cluster of its own up, REUSE=1 takes one that KEEP left, BUILT=DIR takes images that are made already.
PROGRAMS=${PROGRAMS:-${CARGO_TARGET_DIR:-target}/$(rustc -vV | sed -n 's/^host: //p')/debug}
tulle() { "$PROGRAMS/tulle" "$@"; }
OWN=1; [ -z "${KUBECONFIG:-}" ] || OWN=
S=$STATE/$NAME; W=$(mktemp -d); SPACES=

# load FILE.tar…: images into every node
load_images() {
  if [ "$OWN" ]; then "$KT/load" "$NAME" "$@"; else for file; do $LOAD "$file" >/dev/null; done; fi
}

finish() {
  if [ "$OWN" ]; then
    if [ "${KEEP:-}${REUSE:-}" ]; then echo "KUBECONFIG=$S/kubeconfig"; else "$KT/down" "$NAME"; fi
  elif [ "$SPACES" ]; then
    remove >/dev/null 2>&1 || true
    kubectl delete --ignore-not-found namespace tulle-system $SPACES >/dev/null || true
    kubectl delete --ignore-not-found -f deploy/crds >/dev/null || true
  fi
  rm -rf "$W"
}
trap finish EXIT
remove() { tulle uninstall --force --crds; }

# values: for an installation from these images
values() {
  # of a cluster of our own the ranges are known
  local ranges=
  [ -z "$OWN" ] || ranges=$(NAME=$NAME; . "$KT/lib.sh"; net; echo "$SVC, $POD.0.0/16")
  cat > "$W/values.yaml" <<Y
image: {registry: registry.local, tag: dev, pullPolicy: Never, envoy: 'registry.local/envoy:1'}
controlPlane: {replicas: ${REPLICAS:-1}, resources: {requests: {cpu: 10m}}}
meshRanges: [$ranges]
Y
}

# cluster NODES NAMESPACE…: brings it up, with images; the namespaces are those that the test makes
cluster() {
  local nodes=$1 there; shift
  if [ "$OWN" ]; then
    export KUBECONFIG=$S/kubeconfig
    [ -z "${REUSE:-}" ] || { values; return; }
    "$KT/build.sh"; "$KT/images.sh"
    "$KT/down" "$NAME" >/dev/null; "$KT/up" "$NAME" --nodes "$nodes" ${ID:+--id "$ID"}
  else
    echo "on the cluster of KUBECONFIG=$KUBECONFIG, $(kubectl config view --minify -o 'jsonpath={.clusters[0].cluster.server}')"
    [ "${LOAD:-}" ] || { echo "LOAD must be a command that brings an image archive into all nodes, for example: LOAD='kind load image-archive'" >&2; exit 1; }
    there=$(kubectl get namespace --ignore-not-found -o name tulle-system "$@"; kubectl get crd -o name | grep -F .tulle.dev) || true
    [ -z "$there" ] || { printf '%s\n' "This cluster has what this test makes and deletes: it keeps off." "$there" >&2; exit 1; }
    SPACES=$*
    "$KT/build.sh"; "$KT/images.sh"
    load_images "$IMAGES"/*.tar
  fi
  if [ -z "${BUILT:-}" ]; then
    BUILT=$W/images; deploy/images/build --profile dev --registry registry.local --tag dev --out "$BUILT" >/dev/null
  fi
  load_images "$BUILT"/tulle-{control-plane,proxy,redirect}.tar
  values
}
