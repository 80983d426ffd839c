//! Upper bounds of durations, in the classic form.

/// How many upper bounds of durations there are.
pub(in super::super) const BOUNDS: usize = 14;

/// Upper bounds of durations of requests, in seconds.
pub(in super::super) const OF_REQUESTS: [f64; BOUNDS] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Those of opaque connections, which may last for days.
pub(in super::super) const OF_CONNECTIONS: [f64; BOUNDS] = [
    0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 43200.0, 86400.0,
    604_800.0,
];
