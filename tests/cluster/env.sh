# One setting of Go everywhere, or its build cache is not shared.
export GOFLAGS="-buildvcs=false" GOTOOLCHAIN=local CGO_ENABLED=0
# What is built is kept outside of the checkout; the programs under a name that follows from their sources.
CACHE=${TULLE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tulle}/cluster
BIN=$CACHE/bin-$(cat "$KT"/build.sh "$KT"/kube/go.* "$KT"/kube/cmd/*/*.go | sha256sum | cut -c1-12)
IMAGES=$CACHE/images
STATE=/var/tmp/tulle-cluster
export PATH=$BIN:$PATH:/usr/sbin:/sbin
