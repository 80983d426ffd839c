#!/bin/bash
# images.sh: makes the images of pause, coredns, busybox (static) and nettools (iptables, nft, ip, curl from Debian's
# packages). Does nothing when they are there.
set -euo pipefail
KT=$(cd "$(dirname "$0")" && pwd); . "$KT/env.sh"; cd "$KT"; [ "$IMAGES/nettools.tar" -ot "$BIN/complete" ] || [ ! -e "$IMAGES/nettools.tar" ] || exit 0
mkdir -p "$IMAGES"; R=$(mktemp -d); trap 'rm -rf $R' EXIT
mkdir -p $R/pause $R/coredns; cp $BIN/pause $R/pause/; cp $BIN/coredns $R/coredns/
bb() { mkdir -p $1/bin $1/tmp $1/etc $1/root $1/run; chmod 1777 $1/tmp; cp /bin/busybox $1/bin/; (cd $1/bin; for a in $(./busybox --list); do case $a in busybox) ;; *) ln -s busybox $a;; esac; done)
  printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' > $1/etc/passwd; printf 'root:x:0:\n' > $1/etc/group; }
bb $R/busybox; bb $R/nettools; rm -f $R/nettools/bin/ip $R/nettools/bin/iptables*; 
OURS=../../deploy/images # how images are made
$OURS/collect $R/nettools /usr/sbin/nft /usr/sbin/xtables-nft-multi /usr/sbin/ip /usr/bin/curl /usr/lib/*/xtables/*.so
for n in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do ln -s xtables-nft-multi $R/nettools/usr/sbin/$n; done
for i in pause:'["/pause"]' coredns:'["/coredns"]' busybox:null nettools:null; do n=${i%%:*}; python3 $OURS/pack.py "$IMAGES/$n.tar" registry.local/$n:1 $R/$n --entry "${i#*:}"; done
