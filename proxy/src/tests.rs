//! Two sidecars in this process, with real sockets, TLS and applications; only the kernel's
//! redirection is played by another [`Capture`](crate::net::capture::Capture).

mod draining;
mod ends;
mod harness;
mod http;
mod opaque;
