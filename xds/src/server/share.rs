//! What one pod may subscribe to, whatever it says of itself and however many streams it opens.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tonic::Status;

use crate::{cache::Dialect, protocol::MAX_SUBSCRIPTIONS};

/// Names for clients that ask for what they use. A proxy of ours knows at most 4,096 addresses, each
/// with its listener, route, cluster and endpoints; and all of it twice, while a stream that was cut
/// off is not known to be.
const BY_NAME: usize = 32 << 10;

/// Names that the streams of a pod subscribe to, all together.
pub(super) type Names = Arc<AtomicUsize>;

/// One stream's part in it.
#[derive(Debug)]
pub(super) struct Share {
    of_pod: Names,
    own: usize,
    most: usize,
}

impl Share {
    /// Nothing yet. Whoever uses wildcards goes on to name all clusters and routes that there are.
    pub(super) fn new(of_pod: Names, dialect: Dialect) -> Self {
        let most = match dialect {
            Dialect::Envoy => MAX_SUBSCRIPTIONS,
            Dialect::Tulle | Dialect::Other(_) | Dialect::Grpc => BY_NAME,
        };
        Self { of_pod, own: 0, most }
    }

    /// This stream now subscribes to so many names.
    ///
    /// # Errors
    /// The status with which it ends, if that is too much.
    pub(super) fn is(&mut self, names: usize) -> Result<(), Status> {
        let all = self.of_pod.fetch_add(names, Ordering::Relaxed) + names - self.own;
        self.of_pod.fetch_sub(self.own, Ordering::Relaxed);
        self.own = names;
        if all > self.most {
            let most = self.most;
            return Err(Status::resource_exhausted(format!(
                "the streams of this pod subscribe to more than {most} names: unsubscribe from what is not used"
            )));
        }
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of_pod.fetch_sub(self.own, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_a_pod_share_and_give_back() {
        let names = Names::default();
        let stream = || Share::new(Arc::clone(&names), Dialect::Tulle);
        let (mut first, mut second) = (stream(), stream());
        first.is(BY_NAME - 10).unwrap();
        second.is(10).unwrap();
        second.is(11).unwrap_err();
        second.is(5).unwrap();
        first.is(BY_NAME - 5).unwrap();
        drop(first);
        second.is(BY_NAME).unwrap();
        drop(second);
        assert_eq!(names.load(Ordering::Relaxed), 0);
        Share::new(names, Dialect::Envoy).is(BY_NAME + 1).unwrap();
    }
}
