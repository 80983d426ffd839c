//! What replicas say, as messages.

use tulle_proto::replica::v1 as proto;

use crate::{
    status::{Edition, Force, Rejection, Told},
    world::objects::{Kind, Name, ObjectRef},
};

pub(super) fn encode(object: &ObjectRef, told: &Told) -> proto::Force {
    let Told { force, edition } = told;
    let Edition { uid, generation, turn } = edition.clone().unwrap_or_default();
    let rejections = force.rejections.iter().map(|rejection| proto::Rejection {
        proxy: rejection.proxy.clone(),
        resource: rejection.resource.clone(),
        reason: rejection.reason.clone(),
    });
    proto::Force {
        kind: object.kind.as_str().to_owned(),
        namespace: object.name.namespace.to_string(),
        name: object.name.name.to_string(),
        uid,
        generation,
        turn,
        of: count(force.of),
        on: count(force.on),
        waiting: count(force.waiting),
        grpc: count(force.grpc),
        rejections: rejections.collect(),
        laggards: force.laggards.clone(),
        too_old: force.too_old.iter().map(|(field, of)| (field.clone(), count(*of))).collect(),
    }
}

pub(super) fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// `None`: of a kind that this version does not know.
pub(super) fn decode(force: proto::Force) -> Option<(ObjectRef, Told)> {
    let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == force.kind)?;
    let name = Name::new(force.namespace, force.name);
    let rejections = force.rejections.into_iter().map(|rejection| Rejection {
        proxy: rejection.proxy,
        resource: rejection.resource,
        reason: rejection.reason,
    });
    let told = Told {
        edition: (force.generation > 0).then_some(Edition {
            uid: force.uid,
            generation: force.generation,
            turn: force.turn,
        }),
        force: Force {
            on: force.on as usize,
            of: force.of as usize,
            waiting: force.waiting as usize,
            grpc: force.grpc as usize,
            rejections: rejections.collect(),
            laggards: force.laggards,
            unheard: Vec::new(),
            too_old: force.too_old.into_iter().map(|(field, of)| (field, of as usize)).collect(),
        },
    };
    Some((ObjectRef { kind, name }, told))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let object = ObjectRef { kind: Kind::MeshTls, name: Name::new("shop", "strict") };
        let rejection = Rejection {
            proxy: "shop/web-1".to_owned(),
            resource: "route/x".to_owned(),
            reason: "no".to_owned(),
        };
        let force = Force {
            on: 1,
            of: 4,
            waiting: 2,
            grpc: 1,
            rejections: vec![rejection],
            laggards: vec!["shop/web-2".to_owned()],
            unheard: Vec::new(),
            too_old: [("spec.x".to_owned(), 3)].into(),
        };
        let told =
            Told { force, edition: Some(Edition { uid: "u".to_owned(), generation: 7, turn: 3 }) };
        assert_eq!(decode(encode(&object, &told)), Some((object, told)));
        assert_eq!(
            decode(proto::Force { kind: "Tomorrow".to_owned(), ..Default::default() }),
            None
        );
    }
}
