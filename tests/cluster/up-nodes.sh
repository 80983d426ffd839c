# sourced by up: the nodes' namespaces, the wires between them, the forwarder 127.0.0.1:$PORT -> the same port in node 1's network namespace
start_node() { local i=$1 h ctl path d outer
  mkdir -p $S/node$i/{containerd,kubelet,log,cni,sys}; : > $S/node$i/cgroups
  while IFS=: read -r _ ctl path; do   # the node's own cgroup in every v1 hierarchy
    [ -n "$ctl" ] || continue; h=${ctl#name=}; [ -d /sys/fs/cgroup/$h ] || continue
    d=/sys/fs/cgroup/$h${path%/}/kt-$NAME-$i; mkdir -p $d; [ $h != cpuset ] || { cat $d/../cpuset.cpus > $d/cpuset.cpus; cat $d/../cpuset.mems > $d/cpuset.mems; }
    echo $d >> $S/node$i/cgroups
  done < /proc/self/cgroup
  spawn node$i unshare -n -m -p -u --fork --kill-child --mount-proc $KT/node-init.sh $NAME $i
  outer=$(tail -1 $S/pids | cut -d' ' -f1)
  until [ -e $S/node$i/here ]; do sleep 0.05; kill -0 $outer || { cat $LOG/node$i.log; exit 1; }; done
  tr -d ' ' < /proc/$outer/task/$outer/children > $S/node$i/pid
  ip netns attach kt-$NAME-$i $(cat $S/node$i/pid); }
for r in $NODENET.0/24 $SVC $POD.0.0/16; do ip route add unreachable $r metric 9999 2>/dev/null || true; done  # such traffic from outside must not leave the machine
for i in $(seq $NODES); do start_node $i; done
ip -n kt-$NAME-1 link add node0 type bridge
for i in $(seq 2 $NODES); do
  ip -n kt-$NAME-1 link add n$i type veth peer name eth0 netns kt-$NAME-$i; ip -n kt-$NAME-1 link set n$i master node0 up
done
for i in $(seq $NODES); do touch $S/node$i/wired; done
spawn forward kt forward $(cat $S/node1/pid) 127.0.0.1:$PORT 127.0.0.1:$PORT
waitfor apiserver 180 kubectl get --raw /readyz
waitfor default-serviceaccount 60 kubectl -n default get serviceaccount default
for i in $(seq $NODES); do waitfor node$i-registered 120 kubectl get node node$i; done
waitfor nodes-Ready 120 kubectl wait --for=condition=Ready node --all --timeout=5s
[ ! -e $IMAGES/coredns.tar ] || waitfor dns-Ready 120 kubectl -n kube-system wait --for=condition=Available deploy/coredns --timeout=5s
