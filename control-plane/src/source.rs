//! What a source of objects says: a directory, or Kubernetes.

use crate::{
    problem::{Place, Problem},
    status::Edition,
    world::{Event, objects::ObjectRef},
};

/// What happened at once.
#[derive(Debug, Default)]
pub struct Batch {
    /// To be applied in this order.
    pub events: Vec<Event>,
    /// Everything that is wrong now with each object by itself.
    pub problems: Vec<Problem>,
    /// Where objects that refer to others stand now, if that has changed; `None` is nowhere.
    pub places: Vec<(ObjectRef, Option<Place>)>,
    /// New editions of objects that have a status, from sources that count them.
    pub editions: Vec<(ObjectRef, Edition)>,
}
