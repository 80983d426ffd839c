//! Lanes, and what becomes of their requests:
//!
//! ```text
//! GET /telemetry/lanes?namespace=shop   only there (default: everywhere)
//!     &name=pr-1234   only lanes of this name
//!     &window=60      seconds, at most a quarter of an hour
//!     &watch=true     who asks goes on looking: sidecars report every second for half a minute
//! ```

mod view;

use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode, Uri};
use tulle_runtime::http::text;

pub use self::view::{
    BehindView, EntryView, LaneView, LaneWorkloadView, LanesView, PassedView, ValueView,
};
use super::{Console, policies};
use crate::{
    admin,
    compile::LaneSight,
    telemetry::{
        Scope,
        api::{as_json, is_name},
        lanes::{Ask, LONGEST},
    },
    world::objects::{Kind, ObjectRef},
};

/// Where they are.
pub const PATH: &str = "/telemetry/lanes";

/// What an address asks for.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    ask: Ask,
    watch: bool,
}

/// All that somebody may see.
pub(super) async fn look(console: &Console, uri: &Uri, scope: &Scope) -> Response<Bytes> {
    let Asked { ask, watch } = match Asked::read(uri.query().unwrap_or_default()) {
        Ok(asked) => asked,
        Err(problem) => return text(StatusCode::BAD_REQUEST, format!("{problem}\n")),
    };
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let (namespace, name) = (some(&ask.namespace), some(&ask.name));
    let sights = admin::ask(&console.world, move |world| {
        LaneSight::all(world, namespace.as_deref(), name.as_deref())
    });
    let Some(mut sights) = sights.await else {
        return text(StatusCode::SERVICE_UNAVAILABLE, "this replica is ending\n");
    };
    sights.retain(|sight| scope.has(&sight.name.namespace));
    // Whoever may not see a namespace may not make its sidecars report more often either.
    let watch = watch && (*scope == Scope::All || scope.has(&ask.namespace));
    let (told, surveys) = tokio::join!(console.query.lanes(&ask, watch), console.surveys());
    let forces = policies::totals(&surveys);
    let force = |sight: &LaneSight| {
        let object = ObjectRef { kind: Kind::Lane, name: sight.name.clone() };
        forces.get(&object).map(|told| (told.force.on, told.force.of)).unwrap_or_default()
    };
    as_json(&view::view(&sights, force, &told, ask.window))
}

impl Asked {
    fn read(query: &str) -> Result<Self, String> {
        let (namespace, name) = (String::new(), String::new());
        let ask = Ask { namespace, name, window: Duration::from_secs(60) };
        let mut asked = Self { ask, watch: false };
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*key {
                "namespace" | "name" if !is_name(&value) => {
                    return Err(format!("{key}={value}: that is no name of Kubernetes"));
                }
                "namespace" => asked.ask.namespace = value.into_owned(),
                "name" => asked.ask.name = value.into_owned(),
                "window" => {
                    let seconds = value.parse().ok().map(Duration::from_secs);
                    let fits = seconds.filter(|window| !window.is_zero() && *window <= LONGEST);
                    asked.ask.window = fits.ok_or_else(|| {
                        let most = LONGEST.as_secs();
                        format!("window={value}: it is a number of seconds from 1 to {most}")
                    })?;
                }
                "watch" => asked.watch = value == "true",
                other => return Err(format!("{other:?} is not known here")),
            }
        }
        Ok(asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_read_or_refused_with_a_reason() {
        let asked = Asked::read("namespace=shop&name=pr-1&window=300&watch=true");
        let (namespace, name) = ("shop".to_owned(), "pr-1".to_owned());
        let ask = Ask { namespace, name, window: Duration::from_secs(300) };
        assert_eq!(asked, Ok(Asked { ask, watch: true }));
        for (query, problem) in [
            ("window=0", "window=0: it is a number of seconds from 1 to 900"),
            ("window=901", "window=901: it is a number of seconds from 1 to 900"),
            ("namespace=a%2Fb", "namespace=a/b: that is no name"),
            ("lane=a", "\"lane\" is not known"),
        ] {
            let refused = Asked::read(query).unwrap_err();
            assert!(refused.starts_with(problem), "{query}: {refused}");
        }
    }
}
