//! The process: what every Tulle program needs around its work, and nothing of the work.
//!
//! ```text
//! log      what it says          ready    may it get traffic?
//! metrics  what it counts        drain    how it ends
//! http     the small admin server         signal   when it is told to end
//! room     how many connections, of whom  socket   Unix sockets for us alone
//! pages    what of its code it holds            histogram  durations, exactly enough
//! seldom   what strangers can make it say  vouch   whose identities a root makes
//! ```

pub mod drain;
pub mod histogram;
pub mod http;
pub mod log;
pub mod metrics;
pub mod pages;
pub mod ready;
pub mod room;
pub mod seldom;
pub mod signal;
pub mod socket;
pub mod vouch;
