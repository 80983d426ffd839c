//! Questions to a control plane that answers as a test says.

use std::{sync::Arc as Shared, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use parking_lot::Mutex;
use tokio::{net::UnixListener, time::Instant};
use tulle_runtime::{
    drain,
    http::{Handler, serve_unix, text},
};

use super::{
    super::{
        desk::Desk,
        follow::{Course, summary},
        get::Until,
        verbs,
    },
    *,
};
use crate::observe::{Error, Source};

/// A control plane: what it was asked, and what it answers to each question in turn, the last answer again and again.
struct Fake {
    asked: Shared<Mutex<Vec<String>>>,
    answers: Mutex<Vec<(StatusCode, String)>>,
}

impl Handler for Fake {
    async fn handle(&self, request: Request<Bytes>) -> Response<Bytes> {
        self.asked.lock().push(format!("{} {}", request.method(), request.uri()));
        let mut answers = self.answers.lock();
        let next = if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() };
        text(next.0, next.1)
    }
}

/// What one that answers so is asked by `doing`.
async fn asked<T>(
    answers: Vec<(StatusCode, String)>,
    doing: impl AsyncFnOnce(&Desk) -> T,
) -> (T, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("admin.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let asked = Shared::new(Mutex::new(Vec::new()));
    let fake = Fake { asked: Shared::clone(&asked), answers: Mutex::new(answers) };
    let (_trigger, drain) = drain::channel();
    let served = tokio::spawn(serve_unix(listener, fake, drain));
    let done = doing(&Desk { source: Source::Local(socket) }).await;
    served.abort();
    let asked = asked.lock().clone();
    (done, asked)
}

fn says<T: serde::Serialize>(value: &T) -> (StatusCode, String) {
    (StatusCode::OK, serde_json::to_string(value).unwrap())
}

fn all(items: Vec<ReleaseView>) -> (StatusCode, String) {
    says(&ReleasesView { items })
}

#[tokio::test]
async fn a_name_alone_is_looked_for_everywhere() {
    let name = Asked::read("reviews", None).unwrap();
    let (found, questions) = asked(vec![all(vec![progressing()])], async |desk: &Desk| {
        desk.full(&name).await.map_err(|error| error.to_string())
    })
    .await;
    assert_eq!(found, Ok(Asked::read("shop/reviews", None).unwrap()));
    assert_eq!(questions, ["GET /releases?name=reviews"]);
    let other = ReleaseView { namespace: "test".to_owned(), ..progressing() };
    for (items, why) in [
        (Vec::new(), "there is no Release reviews in any namespace that you may see"),
        (vec![progressing(), other], "there are several: shop/reviews, test/reviews; say which"),
    ] {
        let (refused, _) = asked(vec![all(items)], async |desk: &Desk| {
            desk.wish(&name, "rollback", &[]).await.map_err(|error| error.to_string())
        })
        .await;
        let refused = refused.unwrap_err();
        assert!(refused.starts_with(why), "{refused}");
    }
}

#[tokio::test]
async fn verbs_are_said_once_and_refusals_as_they_are() {
    let name = Asked::read("shop/reviews", None).unwrap();
    let (done, questions) = asked(vec![says(&of(Phase::Held))], async |desk: &Desk| {
        let said = [("reason", "too slow & wrong".to_owned()), ("revision", String::new())];
        desk.wish(&name, "rollback", &said).await.unwrap()
    })
    .await;
    assert_eq!(summary(&done), "shop/reviews is Held: because");
    let expected = "POST /releases/rollback?namespace=shop&name=reviews&reason=too+slow+%26+wrong";
    assert_eq!(questions, [expected]);
    for (status, passes) in [
        (StatusCode::CONFLICT, false),
        (StatusCode::FORBIDDEN, false),
        (StatusCode::SERVICE_UNAVAILABLE, true),
    ] {
        let answer = vec![(status, "errors is Amber; `promote --now` does it\n".to_owned())];
        let (refused, questions) =
            asked(answer, async |desk: &Desk| desk.wish(&name, "promote", &[]).await).await;
        let refused = refused.unwrap_err();
        let told = "the control plane says: errors is Amber; `promote --now` does it";
        assert_eq!((refused.to_string().as_str(), questions.len()), (told, 1));
        assert_eq!(matches!(refused, Error::Away(_)), passes);
    }
}

#[tokio::test]
async fn a_rollback_is_waited_for() {
    let name = Asked::read("shop/reviews", None).unwrap();
    let late = ReleaseView {
        on: 35,
        in_force: false,
        laggards: vec!["shop/a".to_owned()],
        ..of(Phase::Held)
    };
    let answers = vec![all(vec![late.clone()]), all(vec![of(Phase::Held)])];
    let began = Instant::now();
    let (done, questions) =
        asked(answers, async |desk: &Desk| verbs::in_force(desk, &name, late.clone(), began).await)
            .await;
    assert!(
        done.whole && done.told.starts_with("in force on 37/37 proxies after "),
        "{}",
        done.told
    );
    assert_eq!(questions.len(), 2);
    let long_ago = began.checked_sub(Duration::from_secs(10)).unwrap();
    let (done, _) = asked(vec![all(vec![late.clone()])], async |desk: &Desk| {
        verbs::in_force(desk, &name, late.clone(), long_ago).await
    })
    .await;
    let told = "in force on 35/37 proxies within 10 s, not yet on shop/a";
    assert_eq!((done.whole, done.told.as_str()), (false, told));
}

#[tokio::test]
async fn the_first_look_waits_for_it_too() {
    let until = Until { exit: true, begin: Some(Duration::from_secs(20)), ..Until::default() };
    let answers = vec![
        (StatusCode::SERVICE_UNAVAILABLE, "no replica steers".to_owned()),
        all(Vec::new()),
        all(vec![progressing()]),
    ];
    let name = Asked::read("shop/reviews", None).unwrap();
    let (found, questions) = asked(answers, async |desk: &Desk| {
        Course::new(until).seen(desk, &name).await.map(|view| view.name)
    })
    .await;
    assert_eq!((found.unwrap().as_str(), questions.len()), ("reviews", 3));
}
