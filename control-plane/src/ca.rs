//! Certificates: who asks is proven by a token, and gets the name that the token proves.
//!
//! ```text
//! token, CSR ─► attest (who is it?) ─► issue (leaf) ─► chain, roots
//!                  ▲                      ▲
//!       Roster, signed or TokenReview   roots
//! ```
//!
//! Invariants: a name in a certificate comes from the token, never from the CSR; a key of a
//! workload is never seen here; the root's key leaves the process only to its own file.

pub mod attest;
pub mod csr;
pub mod issue;
pub mod keys;
pub mod overlap;
pub mod peer;
pub mod root;
pub mod roots;
pub mod server_certificate;
pub mod service;
pub mod signed;
pub mod subject;

/// Extension of workload certificates that names the pod, and the workload that it is of: DER
/// UTF8String `NAMESPACE/POD/UID/WORKLOAD`.
/// Below an arc of our own; not critical, so that whoever does not know it can use the certificate.
pub const POD_EXTENSION: [u64; 9] = [1, 3, 6, 1, 4, 1, 58888, 1, 1];
