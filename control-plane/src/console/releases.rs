//! Releases, and what people want of them:
//!
//! ```text
//! GET  /releases                              all that somebody may see, without their seconds
//! GET  /releases?namespace=shop&name=reviews  one
//! POST /releases/VERB?namespace=shop&name=reviews
//!      &revision=84f6   only of the release of this version
//!      &to=25           step: percent of the one that is wanted
//!      &now=true        promote: whatever is known
//!      &reason=…        rollback, pause
//! ```

use bytes::Bytes;
use http::{Response, StatusCode, Uri};
use tulle_runtime::http::text;

use super::Viewer;
use crate::{
    release::{Share, Verb},
    steer::{Call, Desk, Unfulfilled, Wish},
    telemetry::{Scope, api::as_json},
};

/// Where they are.
pub const PATH: &str = "/releases";
/// Longest reason.
const LONGEST: usize = 500;
/// Who it was where nobody asks.
const LOCAL: &str = "whoever runs this mesh";

/// What an address asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    namespace: String,
    name: String,
    revision: String,
    to: Option<Share>,
    now: bool,
    reason: String,
}

/// All that somebody may see.
pub(super) async fn look(desk: &Desk, uri: &Uri, scope: &Scope) -> Response<Bytes> {
    let asked = match Asked::read(uri.query().unwrap_or_default()) {
        Ok(asked) => asked,
        Err(problem) => return text(StatusCode::BAD_REQUEST, format!("{problem}\n")),
    };
    let Asked { namespace, name, .. } = asked;
    match desk.ask(Call::Look { namespace, name }).await {
        Ok(mut all) => {
            all.items.retain(|one| scope.has(&one.namespace));
            as_json(&all)
        }
        Err(why) => refusal(&why),
    }
}

/// Does what somebody wants who may.
pub(super) async fn wish(desk: &Desk, uri: &Uri, viewer: &Viewer) -> Response<Bytes> {
    let word = uri.path().strip_prefix(PATH).unwrap_or_default().trim_start_matches('/');
    let asked = Asked::read(uri.query().unwrap_or_default());
    let wish = asked.and_then(|asked| asked.wish(word, viewer));
    match wish {
        Err(problem) => text(StatusCode::BAD_REQUEST, format!("{problem}\n")),
        Ok(wish) if !viewer.scope.has(&wish.namespace) => {
            refusal(&Unfulfilled::Unknown(format!("{}/{}", wish.namespace, wish.name)))
        }
        Ok(wish) => match desk.wish(wish).await {
            Ok(release) => as_json(&release),
            Err(why) => refusal(&why),
        },
    }
}

fn refusal(why: &Unfulfilled) -> Response<Bytes> {
    let code = match why {
        Unfulfilled::Unknown(_) => StatusCode::NOT_FOUND,
        Unfulfilled::Refused(_) => StatusCode::CONFLICT,
        Unfulfilled::NotKept(_) | Unfulfilled::NoLeader(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    text(code, format!("{why}\n"))
}

impl Asked {
    fn read(query: &str) -> Result<Self, String> {
        let mut asked = Self::default();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*key {
                "namespace" => asked.namespace = value.into_owned(),
                "name" => asked.name = value.into_owned(),
                "revision" => asked.revision = value.into_owned(),
                "to" => asked.to = Some(percent(&value)?),
                "now" => asked.now = value == "true",
                "reason" if value.len() > LONGEST => {
                    return Err(format!("reason= has more than {LONGEST} bytes"));
                }
                "reason" => asked.reason = value.into_owned(),
                other => return Err(format!("{other:?} is not known here")),
            }
        }
        Ok(asked)
    }

    fn wish(self, word: &str, viewer: &Viewer) -> Result<Wish, String> {
        let Self { namespace, name, revision, to, now, reason } = self;
        if namespace.is_empty() || name.is_empty() {
            return Err("of which release? namespace=…&name=…".to_owned());
        }
        let verb = match word {
            "start" => Verb::Start,
            "pause" => Verb::Pause,
            "resume" => Verb::Resume,
            "step" => Verb::Step(to),
            "promote" => Verb::Promote { now },
            "rollback" => Verb::Rollback(reason),
            other => {
                return Err(format!(
                    "{other:?} is nothing that can be wanted: start, pause, resume, step, promote, rollback"
                ));
            }
        };
        let who = viewer.user.clone().unwrap_or_else(|| LOCAL.to_owned());
        Ok(Wish { namespace, name, revision, who, verb })
    }
}

fn percent(text: &str) -> Result<Share, String> {
    let percent = text.parse().ok().filter(|percent| *percent <= 100);
    percent.map(Share::percent).ok_or_else(|| format!("to={text} is no percentage: 0 to 100"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str, word: &str) -> Result<Wish, String> {
        Asked::read(query).and_then(|asked| asked.wish(word, &Viewer::local()))
    }

    #[test]
    fn wishes_are_read_or_refused_with_a_reason() {
        let wish = read("namespace=shop&name=reviews&revision=84f6&reason=too+slow%21", "rollback");
        let expected = Wish {
            namespace: "shop".to_owned(),
            name: "reviews".to_owned(),
            revision: "84f6".to_owned(),
            who: LOCAL.to_owned(),
            verb: Verb::Rollback("too slow!".to_owned()),
        };
        assert_eq!(wish, Ok(expected));
        let verb = |query: &str, word| {
            read(&format!("namespace=shop&name=a&{query}"), word).map(|wish| wish.verb)
        };
        assert_eq!(verb("to=25", "step"), Ok(Verb::Step(Some(Share::percent(25)))));
        assert_eq!(verb("", "step"), Ok(Verb::Step(None)));
        assert_eq!(verb("now=true", "promote"), Ok(Verb::Promote { now: true }));
        for (query, word, problem) in [
            ("to=101", "step", "to=101 is no percentage"),
            ("too=1", "step", "\"too\" is not known"),
            ("", "abort-all", "\"abort-all\" is nothing"),
        ] {
            assert!(verb(query, word).unwrap_err().starts_with(problem), "{query}");
        }
        assert!(read("name=a", "pause").unwrap_err().starts_with("of which release?"));
    }
}
