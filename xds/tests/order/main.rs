//! Clients against the server's side of the protocol, without a network: whatever happens, each ends up
//! with what is published; and on the way it never has a route to something that is not there.
//!
//! Clients that follow the wildcard, as stock Envoy does, wait for all that a route leads to before they are
//! told of it; those that name what they want, as gRPC does, get that by themselves, so that here only
//! what they have had must not go before the route. (Of one exception: a client that comes back and cannot
//! say in time which clusters it has. What went meanwhile is gone before its routes.)

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod client;
mod pair;

use proptest::{collection::vec, prelude::*};
use tulle_xds::model::envoy;

use self::{client::Client, pair::Pair};

const POD: &str = "shop/cart-1";
const SERVICES: [&str; 4] = ["a", "b", "c", "d"];

/// How a client speaks.
#[derive(Debug, Clone, Copy)]
struct Speech {
    /// By differences; else by whole states.
    delta: bool,
    /// It names what it wants; else it has all.
    names: bool,
}

#[derive(Debug, Clone)]
enum Step {
    /// A Service is there, with this content, and its route leads to that Service if it is there.
    Apply(usize, u8, usize),
    Delete(usize),
    ServerTakes,
    ServerSends,
    ClientTakes,
    Reconnect,
    Exchange,
}

fn step() -> impl Strategy<Value = Step> {
    let service = || 0..SERVICES.len();
    prop_oneof![
        3 => (service(), 0..3_u8, service()).prop_map(|(s, c, t)| Step::Apply(s, c, t)),
        2 => service().prop_map(Step::Delete),
        3 => Just(Step::ServerTakes),
        3 => Just(Step::ServerSends),
        3 => Just(Step::ClientTakes),
        1 => Just(Step::Reconnect),
        4 => Just(Step::Exchange),
    ]
}

fn run(speech: Speech, steps: &[Step]) -> Pair {
    let mut pair = Pair::new(speech);
    for step in steps {
        pair.step(step);
    }
    pair.settle();
    pair.check();
    pair
}

/// Coming back costs a delta client nothing.
fn comes_back_for_free(mut pair: Pair) {
    pair.client.received = 0;
    pair.step(&Step::Reconnect);
    pair.settle();
    pair.check();
    assert_eq!(pair.client.received, 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2500))]

    #[test]
    fn a_delta_client_ends_up_with_all_and_comes_back_for_free(steps in vec(step(), 0..40)) {
        comes_back_for_free(run(Speech { delta: true, names: false }, &steps));
    }

    #[test]
    fn a_state_of_the_world_client_ends_up_with_all(steps in vec(step(), 0..40)) {
        run(Speech { delta: false, names: false }, &steps);
    }

    #[test]
    fn a_delta_client_that_names_what_it_wants_ends_up_with_that(steps in vec(step(), 0..40)) {
        comes_back_for_free(run(Speech { delta: true, names: true }, &steps));
    }

    #[test]
    fn a_state_of_the_world_client_that_names_what_it_wants_ends_up_with_that(steps in vec(step(), 0..40)) {
        run(Speech { delta: false, names: true }, &steps);
    }
}

#[test]
fn an_empty_mesh_is_told_so_at_once() {
    for delta in [true, false] {
        let pair = run(Speech { delta, names: false }, &[]);
        assert_eq!(pair.client.has.len(), envoy::own(POD).len());
    }
}
