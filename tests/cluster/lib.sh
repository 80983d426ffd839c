# shared by up, down, node.sh. Needs NAME. A started process is recorded as "pid starttime name" in $S/pids.
KT=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd); . $KT/env.sh; S=$STATE/$NAME; PKI=$S/pki; LOG=$S/log
starttime() { sed 's/.*) //' /proc/$1/stat 2>/dev/null | awk '{print $20}'; }
spawn() { local n=$1; shift; setsid "$@" >$LOG/$n.log 2>&1 </dev/null & echo "$! $(starttime $!) $n" >> $S/pids; }
missing() { echo "up: $1 not ready after ${2}s; the last lines of each log, and the disk:" >&2; tail -n 5 $LOG/*.log >&2 || true; df -h "$S" >&2; }
waitfor() { # what seconds cmd...
  local w=$1 t=$2 end; shift 2; end=$((SECONDS+t))
  until "$@" >/dev/null 2>&1; do [ $SECONDS -lt $end ] || { missing "$w" "$t"; return 1; }; sleep 0.2; done
  echo "  $w $(( ($(date +%s%N)-${T0:-$(date +%s%N)})/1000000 )) ms"; }
# --- addresses: cluster ID gives every cluster its own; all of it lives in network namespaces kt-NAME-N only
[ -f $S/env ] && . $S/env
net() { NODENET=10.89.$ID; SVC=10.$((96+ID)).0.0/16; DNS=10.$((96+ID)).0.10; POD=10.$((128+ID)); PORT=$((16443+ID)); EP=$((12379+10*ID)); }
start_etcd() {
mkdir -m 700 -p $S/etcd
cat > $S/etcd.yaml <<Y
name: kt
data-dir: $S/etcd
listen-client-urls: http://127.0.0.1:$EP
advertise-client-urls: http://127.0.0.1:$EP
listen-peer-urls: http://127.0.0.1:$((EP+1))
initial-advertise-peer-urls: http://127.0.0.1:$((EP+1))
initial-cluster: kt=http://127.0.0.1:$((EP+1))
initial-cluster-state: new
log-level: warn
unsafe-no-fsync: true
quota-backend-bytes: 4294967296
auto-compaction-mode: periodic
auto-compaction-retention: 5m
Y
spawn etcd etcd $S/etcd.yaml; }
start_apiserver() { # bind-address advertise-address endpoint-reconciler
spawn kube-apiserver kube-apiserver --etcd-servers=http://127.0.0.1:$EP --bind-address=$1 --secure-port=$PORT --advertise-address=$2 --endpoint-reconciler-type=$3 \
 --service-cluster-ip-range=$SVC${SVC6:+,$SVC6} --allow-privileged=true --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
 --tls-cert-file=$PKI/apiserver.crt --tls-private-key-file=$PKI/apiserver.key --client-ca-file=$PKI/ca.crt \
 --service-account-issuer=https://kubernetes.default.svc.cluster.local --service-account-signing-key-file=$PKI/sa.key --service-account-key-file=$PKI/sa.pub \
 --requestheader-client-ca-file=$PKI/front-proxy-ca.crt --requestheader-allowed-names=front-proxy-client --requestheader-extra-headers-prefix=X-Remote-Extra- --requestheader-group-headers=X-Remote-Group --requestheader-username-headers=X-Remote-User \
 --proxy-client-cert-file=$PKI/front-proxy-client.crt --proxy-client-key-file=$PKI/front-proxy-client.key \
 --kubelet-client-certificate=$PKI/apiserver-kubelet-client.crt --kubelet-client-key=$PKI/apiserver-kubelet-client.key --kubelet-certificate-authority=$PKI/ca.crt --kubelet-preferred-address-types=InternalIP \
 --profiling=false --shutdown-delay-duration=0s ${APISERVER_EXTRA:-}; }
start_kcm() { # bind ports: secure-port differs per cluster so that two --cp clusters fit in one network namespace
spawn kube-controller-manager kube-controller-manager --kubeconfig=$PKI/controller-manager.kubeconfig --authentication-kubeconfig=$PKI/controller-manager.kubeconfig --authorization-kubeconfig=$PKI/controller-manager.kubeconfig \
 --bind-address=127.0.0.1 --secure-port=$((10257+20*ID)) --leader-elect=false --use-service-account-credentials=true --service-account-private-key-file=$PKI/sa.key --root-ca-file=$PKI/ca.crt \
 --cluster-signing-cert-file=$PKI/ca.crt --cluster-signing-key-file=$PKI/ca.key $([ $NODES = 0 ] || echo --allocate-node-cidrs=true --cluster-cidr=$POD.0.0/16${POD6:+,$POD6}) --service-cluster-ip-range=$SVC${SVC6:+,$SVC6} --kube-api-qps=500 --kube-api-burst=1000 --profiling=false ${KCM_EXTRA:-}; }
start_scheduler() { spawn kube-scheduler kube-scheduler --kubeconfig=$PKI/scheduler.kubeconfig --authentication-kubeconfig=$PKI/scheduler.kubeconfig --authorization-kubeconfig=$PKI/scheduler.kubeconfig --bind-address=127.0.0.1 --secure-port=$((10259+20*ID)) --leader-elect=false --kube-api-qps=500 --kube-api-burst=1000 --profiling=false; }
