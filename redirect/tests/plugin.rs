//! The program, called as a runtime calls it, in network namespaces of the real kernel. Needs root.

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::{fd::AsFd, unix::fs::symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::{Value, json};
use tempfile::TempDir;
use tulle_redirect::{cni::waiting, proof, rules::Options};

/// A pod's network namespace, as long as this lives: with a route to everywhere.
struct Pod(Child);

impl Pod {
    fn new() -> Self {
        let script = "ip link set lo up && ip link add eth0 type veth peer name far && \
            ip link set eth0 up && ip link set far up && \
            ip addr add 10.9.0.2/24 dev eth0 && ip route add default via 10.9.0.1 && \
            echo there && exec cat";
        let mut command = Command::new("unshare");
        command.args(["-n", "sh", "-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("unshare");
        let mut said = [0; 6];
        let out = child.stdout.as_mut().expect("piped");
        out.read_exact(&mut said).expect("a namespace (root is needed)");
        Self(child)
    }

    fn namespace(&self) -> String {
        format!("/proc/{}/ns/net", self.0.id())
    }

    /// The rules in it.
    fn rules(&self) -> String {
        let pid = self.0.id().to_string();
        let output =
            Command::new("nsenter").args(["-n", "-t", &pid, "nft", "list", "ruleset"]).output();
        String::from_utf8(output.expect("nsenter").stdout).expect("text")
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _gone = self.0.kill().is_err();
        let _gone = self.0.wait().is_err();
    }
}

/// The program beside its tools, which are this machine's or none.
fn installed(tools: bool) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("tulle-cni");
    fs::copy(env!("CARGO_BIN_EXE_tulle-cni"), &program).expect("the program");
    let beside = folder.path().join("tulle-cni.tools");
    if tools {
        symlink("/", beside).expect("a link");
    } else {
        fs::create_dir(beside).expect("a folder");
    }
    (folder, program)
}

fn call(program: &PathBuf, command: &str, pod: &Pod, annotation: Option<&str>) -> Output {
    let annotations = match annotation {
        Some(text) => json!({"tulle.dev/redirect": text, "other": "x"}),
        None => json!({"other": "x"}),
    };
    let input = json!({
        "cniVersion": "1.0.0", "name": "net", "type": "tulle-cni",
        "prevResult": {"cniVersion": "1.0.0", "ips": [{"address": "10.9.0.2/24"}]},
        "runtimeConfig": {"io.kubernetes.cri.pod-annotations": annotations, "dns": {"servers": ["10.96.0.10"]}},
    });
    let mut child = Command::new(program)
        .env_clear()
        .env("CNI_COMMAND", command)
        .env("CNI_NETNS", pod.namespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(input.to_string().as_bytes()).expect("read");
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

fn said(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}

#[test]
fn a_pod_is_redirected_and_another_is_not() {
    let (_folder, program) = installed(true);
    let (pod, other) = (Pod::new(), Pod::new());
    let added = call(&program, "ADD", &pod, Some("--exclude-inbound-ports 22 --dns 15053"));
    assert!(added.status.success(), "{}", said(&added));
    assert_eq!(said(&added)["ips"][0]["address"], "10.9.0.2/24", "handed on");
    let rules = pod.rules();
    assert!(rules.contains("redirect to :15001"), "{rules}");
    assert!(rules.contains("tcp dport != { 22, 15006, 15020, 15021 }"), "{rules}");
    assert!(rules.contains("ip daddr 10.96.0.10 udp dport 53 redirect to :15053"), "{rules}");
    assert!(call(&program, "CHECK", &pod, Some("")).status.success());
    assert!(call(&program, "ADD", &other, None).status.success());
    assert_eq!(other.rules(), "");
    let unchecked = call(&program, "CHECK", &other, Some(""));
    assert_eq!(said(&unchecked)["details"], "the rules are gone: start the pod anew");
    assert!(call(&program, "DEL", &pod, Some("")).status.success());
}

#[test]
fn without_tools_a_pod_of_the_mesh_does_not_start_and_others_do() {
    let (_folder, program) = installed(false);
    let pod = Pod::new();
    let failed = call(&program, "ADD", &pod, Some(""));
    let failure = said(&failed);
    assert!(!failed.status.success());
    assert_eq!((&failure["code"], &failure["cniVersion"]), (&json!(100), &json!("1.0.0")));
    assert!(
        failure["details"].as_str().unwrap_or_default().contains("nft: No such file"),
        "{failure}"
    );
    assert!(call(&program, "ADD", &pod, None).status.success());
    assert_eq!(pod.rules(), "");
}

/// Who asks for a repair is anybody: it must not change what is there.
#[test]
fn a_repair_writes_rules_only_where_there_are_none() {
    let repair = |pod: &Pod, option: &str| {
        let namespace = File::open(pod.namespace()).expect("a namespace");
        let mut command = Command::new(env!("CARGO_BIN_EXE_tulle-cni"));
        command.args(["repair", "--tools", "/", "--exclude-uids", option]).stdin(namespace);
        assert!(command.status().expect("the program").success());
    };
    let pod = Pod::new();
    repair(&pod, "1001");
    let rules = pod.rules();
    assert!(rules.contains("meta skuid { 1001, 5050 } return"), "{rules}");
    repair(&pod, "1002");
    assert_eq!(pod.rules(), rules);
}

#[test]
fn a_pod_convinces_itself() {
    let (_folder, program) = installed(true);
    let pod = Pod::new();
    let is_redirected = || {
        let namespace = File::open(pod.namespace()).expect("a namespace");
        let looking = thread::spawn(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("the pod's network");
            let options = Options::parse("").expect("options");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(proof::is_redirected(&options))
        });
        looking.join().expect("no panic")
    };
    assert!(!is_redirected(), "nothing is there");
    // The sidecar's source addresses alone are no proof where there is a better one.
    for address in ["169.254.41.1/32", "fd00:7475:6c6c:65::1/128"] {
        let pid = pod.0.id().to_string();
        let add = ["-n", "-t", &pid, "ip", "addr", "add", address, "dev", "lo"];
        assert!(Command::new("nsenter").args(add).status().expect("nsenter").success());
    }
    assert!(!is_redirected(), "rules are not there");
    let added = call(&program, "ADD", &pod, Some(""));
    assert!(added.status.success(), "{}", said(&added));
    assert!(is_redirected());
}

#[test]
fn who_waits_is_found_unless_it_is_on_the_nodes_network() {
    // A shell by the name of the sidecar's program, which runs a script by the name of its command.
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("tulle-proxy");
    fs::copy("/bin/sh", &program).expect("a shell");
    fs::write(folder.path().join("redirect"), "read line\n").expect("written");
    let start = |through: &[&str]| {
        let mut command = Command::new("env");
        command.args(through).arg(&program).args(["redirect", "--wait", "--exclude-uids", "7"]);
        command.current_dir(folder.path()).stdin(Stdio::piped());
        let child = command.spawn().expect("env");
        let comm = format!("/proc/{}/comm", child.id());
        while fs::read(&comm).expect("it runs") != b"tulle-proxy\n" {
            thread::yield_now();
        }
        Pod(child)
    };
    let (apart, here) = (start(&["unshare", "-n"]), start(&[]));
    let found = waiting::find(Path::new("/proc")).expect("processes");
    let of = |pod: &Pod| found.iter().find(|waiting| waiting.process == pod.0.id());
    assert!(of(&here).is_none());
    let options = of(&apart).map(|waiting| waiting.options.join(" "));
    assert_eq!(options.as_deref(), Some("--exclude-uids 7"));
}
