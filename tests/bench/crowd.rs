//! Many Services, as a large mesh has them.

use std::{fmt::Write as _, net::Ipv4Addr, path::Path};

use tulle_tests::{mesh::save, scene::Failure};

/// Services of one file.
const PER_FILE: usize = 100;

/// Writes `services` Services with hand-made EndpointSlices to files in `directory`. The endpoints
/// of the first `used` are `server`; those of the others are addresses that nobody has.
pub(crate) fn write(
    directory: &Path,
    services: usize,
    used: usize,
    server: &str,
) -> Result<(), Failure> {
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: crowd}\n";
    save(&directory.join("crowd.yaml"), namespace)?;
    let mut nobody = u32::from(Ipv4Addr::new(10, 200, 0, 0));
    for first in (0..services).step_by(PER_FILE) {
        let mut text = String::new();
        for i in first..services.min(first + PER_FILE) {
            let addresses: Vec<String> = if i < used {
                vec![server.to_owned()]
            } else {
                nobody += 4;
                (0..4).map(|j| Ipv4Addr::from(nobody + j).to_string()).collect()
            };
            text.push_str(&service(&format!("svc-{i}"), &addresses, 8080));
        }
        save(&directory.join(format!("crowd-{first}.yaml")), &text)?;
    }
    Ok(())
}

/// The Service `name` with a slice of endpoints at these addresses and this port.
pub(crate) fn service(name: &str, addresses: &[String], port: u16) -> String {
    let endpoints = addresses.iter().fold(String::new(), |mut text, address| {
        let one = writeln!(text, "- {{addresses: [{address}], conditions: {{ready: true}}}}");
        one.expect("a String takes all text");
        text
    });
    format!(
        "---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: crowd}}
spec:
  ports: [{{name: http, port: 80, targetPort: 8080}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}-1, namespace: crowd, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv4
ports: [{{name: http, port: {port}, protocol: TCP}}]
endpoints:
{endpoints}"
    )
}
