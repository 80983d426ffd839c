#!/bin/bash
# node.sh NAME I: a node's pid 1. Everything here is private to the node's namespaces.
set -euo pipefail
NAME=$1 I=$2; . "$(dirname "$0")/lib.sh"; net; N=$S/node$I; export KUBECONFIG=$PKI/admin.kubeconfig
spawn() { local n=$1; shift; n=${n}-$I; [ $n != etcd-1 ] || n=etcd; ( set +e; trap '' HUP; while :; do "$@" & echo "$! $n" >> $N/pids; wait $!; echo "--- $n ended with $?; started again"; sleep 0.5; done ) >$LOG/$n.log 2>&1 </dev/null & }   # as a service manager would
# --- mounts
umount -R /sys/fs/cgroup; mount -t sysfs sysfs /sys; mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
awk -F: '$2!="" {print $2}' /proc/self/cgroup | while read c; do h=${c#name=}; mkdir -p /sys/fs/cgroup/$h; o=$c; [ $h != $c ] && o="none,$c"; mount -t cgroup -o $o cgroup /sys/fs/cgroup/$h || rmdir /sys/fs/cgroup/$h; done
mount -t tmpfs -o mode=755 tmpfs /run; mkdir -p /run/netns /run/lock /run/containerd
mount -t tmpfs -o mode=755 tmpfs /var/lib; mkdir -p /var/lib/kubelet /var/lib/cni   # so nothing is left in the machine's own /var/lib
mount --bind $N/kubelet /var/lib/kubelet; mount --bind $N/log /var/log
hostname node$I
# the kubelet sets these kernel settings: it sees them set, the machine's own stay as they are
for kv in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
  k=${kv%=*}; f=$N/sys/${k//\//_}; echo ${kv#*=} > $f; mount --bind $f /proc/sys/$k; done
mount --make-rshared /
touch $N/here; until [ -e $N/wired ]; do sleep 0.05; done
# --- network: no way out of the cluster's namespaces
ip link set lo up
DEV=eth0; [ $I != 1 ] || DEV=node0
ip addr add $NODENET.$I/24 dev $DEV; ip link set $DEV up
sysctl -qw net.ipv4.ip_forward=1
ip route add $SVC dev $DEV src $NODENET.$I
for j in $(seq $NODES); do [ $j = $I ] || ip route add $POD.$j.0/24 via $NODENET.$j; done
R6=; D6=; if [ -n "$POD6" ]; then
  sysctl -qw net.ipv6.conf.all.forwarding=1 net.ipv6.conf.default.accept_dad=0; ip -6 addr add fd00:89:$ID::$I/64 dev $DEV nodad; ip -6 route add $SVC6 dev $DEV
  for j in $(seq $NODES); do [ $j = $I ] || ip -6 route add fd00:128:$ID:$j::/64 via fd00:89:$ID::$j; done
  R6=",[{\"subnet\":\"fd00:128:$ID:$I::/64\"}]"; D6=',{"dst":"::/0"}'; fi
mkdir -p /run/cni/net.d; cat > /run/cni/net.d/10-kt.conflist <<C
{"cniVersion":"1.0.0","name":"kt","plugins":[
 {"type":"ptp","ipMasq":false,"mtu":1500,"ipam":{"type":"host-local","dataDir":"/run/cni/networks","ranges":[[{"subnet":"$POD.$I.0/24"}]$R6],"routes":[{"dst":"0.0.0.0/0"}$D6]}},
 {"type":"portmap","capabilities":{"portMappings":true}}]}
C
# --- control plane
[ $I != 1 ] || { start_etcd; start_apiserver 0.0.0.0 $NODENET.1 master-count; }
cat > $N/containerd.toml <<C
version = 3
root = "$N/containerd"
state = "/run/containerd"
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins.'io.containerd.cri.v1.images']
  snapshotter = "overlayfs"
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = "registry.local/pause:1"
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
  disable_hugetlb_controller = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["/run/cni/bin", "/usr/lib/cni"] # the first is for what a DaemonSet brings
    conf_dir = "/run/cni/net.d"
  [plugins.'io.containerd.cri.v1.runtime'.containerd]
    default_runtime_name = "runc"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
        BinaryName = "/usr/sbin/runc"
        SystemdCgroup = false
C
spawn containerd containerd -c $N/containerd.toml
for t in $IMAGES/*.tar; do waitfor containerd 60 ctr version; [ ! -e $t ] || ctr -n k8s.io images import --local $t; done
waitfor apiserver 180 kubectl get --raw /readyz --server https://$NODENET.1:$PORT
if [ $I = 1 ]; then
  for j in $(seq $NODES); do printf '{"apiVersion":"v1","kind":"Node","metadata":{"name":"node%s"},"spec":{"podCIDR":"%s","podCIDRs":["%s"%s]}}' $j $POD.$j.0/24 $POD.$j.0/24 "${POD6:+,\"fd00:128:$ID:$j::/64\"}"; done | kubectl create -f - >> $LOG/bootstrap.log 2>&1   # else kcm deals the ranges in the order of registration
  touch $S/nodes-made; start_kcm; start_scheduler
  sed "s/@DNS@/$DNS/" $KT/cluster.yaml | kubectl apply -f - >> $LOG/bootstrap.log 2>&1
fi
# --- node
until [ -e $S/nodes-made ]; do sleep 0.1; done
echo "nameserver $NODENET.1" > $N/resolv.conf
cat > $N/kubelet.yaml <<C
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: 0.0.0.0
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $PKI/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $PKI/kubelet-server-$I.crt
tlsPrivateKeyFile: $PKI/kubelet-server-$I.key
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
clusterDNS: [$DNS]
clusterDomain: cluster.local
resolvConf: $N/resolv.conf
evictionHard: {memory.available: 50Mi, nodefs.available: "1%", imagefs.available: "1%"}
imageGCHighThresholdPercent: 100
makeIPTablesUtilChains: false
serializeImagePulls: false
maxPods: 200
fileCheckFrequency: 5s
C
spawn kubelet kubelet --config=$N/kubelet.yaml --kubeconfig=$PKI/kubelet-$I.kubeconfig --hostname-override=node$I --node-ip=$NODENET.$I${POD6:+,fd00:89:$ID::$I}
cat > $N/kube-proxy.yaml <<C
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
bindAddress: $NODENET.$I
clientConnection: {kubeconfig: $PKI/kube-proxy.kubeconfig}
hostnameOverride: node$I
clusterCIDR: $POD.0.0/16${POD6:+,$POD6}
mode: nftables
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
metricsBindAddress: 127.0.0.1:10249
healthzBindAddress: 127.0.0.1:10256
C
spawn kube-proxy kube-proxy --config=$N/kube-proxy.yaml
touch $N/ready; set +e
while :; do wait -n; sleep 1; done   # pid 1: reap
