//! The checked-in code is what the `.proto` files generate. `TULLE_REGENERATE=1` writes it anew.

use std::{fs, path::Path};

#[test]
fn generated_code_is_fresh() {
    let root = Path::new(".");
    let files = protox::compile(
        [
            "tulle/ca/v1/ca.proto",
            "tulle/replica/v1/replica.proto",
            "tulle/telemetry/v1/telemetry.proto",
            "tulle/xds/v1/xds.proto",
            "grpc/health/v1/health.proto",
        ],
        [root],
    )
    .expect("the .proto files compile");
    let out = tempfile::tempdir().unwrap();
    tonic_prost_build::configure()
        .out_dir(out.path())
        .emit_rerun_if_changed(false)
        .bytes(".")
        .compile_fds(files)
        .unwrap();
    for name in [
        "tulle.ca.v1.rs",
        "tulle.replica.v1.rs",
        "tulle.telemetry.v1.rs",
        "tulle.xds.v1.rs",
        "grpc.health.v1.rs",
    ] {
        let code = fs::read_to_string(out.path().join(name)).unwrap();
        let path = root.join("src/generated").join(name);
        if std::env::var_os("TULLE_REGENERATE").is_some() {
            fs::write(&path, &code).unwrap();
        }
        assert!(
            fs::read_to_string(&path).unwrap_or_default() == code,
            "{} is stale: run TULLE_REGENERATE=1 cargo test -p tulle-proto --test fresh",
            path.display()
        );
    }
}
