#!/bin/bash
# scenes.sh [--only N,…] [--control]: the scenes of `make demo` on a real node, driven by kubectl: the same YAML of the sample, the same proofs;
# without arguments whole releases under load, too: POSTs, gRPC streams and TCP, of which none may fail.
# Closes with how many passed and failed. KEEP, REUSE: meshed.sh.
set -euo pipefail
NAME=${NAME:-scenes}; KT=$(cd "$(dirname "$0")" && pwd); . "$KT/env.sh"; cd "$KT/../.."
. "$KT/checks.sh"
[ -z "${KUBECONFIG:-}" ] || { echo "scenes.sh takes no cluster of yours: on its nodes the names python:3.13-slim, nginx:1.29, … would lead to an image of ours." >&2; exit 1; }
. "$KT/meshed.sh"

# --- The sample's images: one, with the programs that `tulle local` shows to every container, by each of their names.
deploy/samples/bookstore/programs
PROGRAMS_OF_ALL=${XDG_CACHE_HOME:-$HOME/.cache}/tulle/programs
SAMPLE=$CACHE/sample-$(cat "$PROGRAMS_OF_ALL/made" "$KT/scenes.sh" | sha256sum | cut -c1-12).tar
if [ ! -e "$SAMPLE" ]; then
  rm -f "$CACHE"/sample-*; R=$W/sample; mkdir -p "$R"/{bin,tmp,etc,root,run,var/tmp,opt/tulle}; chmod 1777 "$R/tmp" "$R/var/tmp"
  cp -a "$PROGRAMS_OF_ALL" "$R/opt/tulle/programs"; rm -rf "$R"/opt/tulle/programs/{archives,bin/envoy,python/envoy}
  cp /bin/busybox "$R/bin/"; for name in $(busybox --list); do [ "$name" = busybox ] || ln -s busybox "$R/bin/$name"; done
  printf 'root:x:0:0:root:/root:/bin/sh\nsample:x:1000:1000:sample:/tmp:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' > "$R/etc/passwd"
  printf 'root:x:0:\nsample:x:1000:\nnogroup:x:65534:\n' > "$R/etc/group"
  python=$(readlink -f /usr/bin/python3)
  mkdir -p "$R/usr/bin" "$R/usr/lib"; ln -s "${python##*/}" "$R/usr/bin/python3"
  cp -a "/usr/lib/${python##*/}" "$R/usr/lib/"; find "$R/usr/lib" \( -name __pycache__ -o -name 'config-*' \) -prune -exec rm -rf {} +
  # what those programs need of this machine (PostgreSQL loads its compiler only where queries are long)
  mapfile -t programs < <(find "$PROGRAMS_OF_ALL" /usr/lib/"${python##*/}" -type f ! -name 'llvmjit*' ! -path '*/envoy/*' \( -perm -1 -o -name '*.so*' \) -exec sh -c 'head -c 4 "$1" | grep -q ELF' sh {} \; -print)
  for program in "$python" /usr/bin/{pkill,tcpdump}; do deploy/images/collect "$R" "$program"; done
  export LD_LIBRARY_PATH=$PROGRAMS_OF_ALL/debian/usr/lib/$(uname -m)-linux-gnu
  { ldd "${programs[@]}" 2>/dev/null || true; } | grep -oE '/[^ ]+' | grep -vE ":$|^$PROGRAMS_OF_ALL" | sort -u > "$W/libraries"
  unset LD_LIBRARY_PATH
  while read -r library; do [ ! -f "$library" ] || [ -e "$R$library" ] || { mkdir -p "$R$(dirname "$library")"; cp -L "$library" "$R$library"; }; done < "$W/libraries"
  printf 'FROM scratch AS sample\nCOPY sample/ /\nENV PATH=/opt/tulle/programs/bin:/usr/bin:/bin:/usr/sbin:/sbin\n' > "$W/Dockerfile"
  python3 deploy/images/pack.py "$SAMPLE.part" registry.local/sample:1 "$R" --dockerfile "$W/Dockerfile" --target sample
  mv "$SAMPLE.part" "$SAMPLE"; rm -rf "$R"
fi
cluster 1
load_images "$SAMPLE"
for image in library/python:3.13-slim library/nginx:1.29 library/postgres:17 curlimages/curl:8.16.0 fortio/fortio:1.65.0; do
  said=$("$KT/in" "$NAME" 1 ctr -n k8s.io images tag --force registry.local/sample:1 "docker.io/$image" 2>&1) || { echo "$said" >&2; exit 1; }
done
[ "${REUSE:-}" ] || check "tulle install" tulle install -f "$W/values.yaml" --set injection.accessLogSample=1 --timeout 90s
webhooks() { kubectl get mutatingwebhookconfiguration tulle-injector -o 'jsonpath={.webhooks[*].name}' | grep -q .; }
check "the webhook is there" eventually 30 webhooks
[ "$failed" = 0 ] || close
if [ $# -gt 0 ]; then
  "$PROGRAMS/scenes" --kubernetes --small "$@"
else
  "$PROGRAMS/scenes" --kubernetes --small || bad "the scenes"
  if "$PROGRAMS/bench" --kubernetes; then ok "whole releases under load"; else bad "whole releases under load"; fi
  close
fi
