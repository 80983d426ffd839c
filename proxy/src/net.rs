//! Sockets: accepting, finding out where a connection was going and what it speaks, dialling,
//! copying. Nothing here knows of routes, clusters or policies.

pub mod capture;
pub mod copy;
pub mod detect;
pub mod dial;
pub mod guard;
pub mod idle;
pub mod io;
pub mod listen;
