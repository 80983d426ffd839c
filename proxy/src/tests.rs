//! Two sidecars in this process, with real sockets, TLS and applications; only the kernel's
//! redirection is played by another [`Capture`](crate::net::capture::Capture).

mod access;
mod collector;
mod cost;
mod defences;
mod draining;
mod ends;
mod floods;
mod frames;
pub(crate) mod harness;
mod http;
mod idle;
mod lanes;
mod logs;
mod mirrors;
mod no_harm;
mod opaque;
mod otlp;
mod reports;
mod resilience;
mod retired;
mod sends;
mod settings;
mod sticky;
mod tags;
mod tap;
mod telemetry;
mod traces;
mod undrawn;
mod versions;
