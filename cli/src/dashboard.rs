//! `tulle dashboard`: the control plane's dashboard at an address of this machine, as the user of the kubeconfig.
//!
//! ```text
//! browser ──► 127.0.0.1:PORT/KEY/… ──► Front ──► the control plane: admin socket, or its port for people
//! ```
//!
//! Whoever can open the address sees what the user may see, and steers releases if the user may: so the address has a key in it
//! that nobody can guess, and no page of another site gets an answer.

use std::{
    env,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    net::Ipv4Addr,
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header, uri::PathAndQuery};
use tokio::net::TcpListener;
use tulle_runtime::{
    drain,
    http::{Handler, Names, serve_tcp, text},
};

use crate::{
    cluster::chain,
    observe::{Error, Source, Where},
};

/// Open the dashboard in a browser.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    tulle dashboard                    of your KUBECONFIG's cluster, or of `tulle local`\n  \
    tulle dashboard --no-open          only print its address\n  \
    tulle dashboard --port 8888        at this port of the machine")]
pub(crate) struct Args {
    /// Port of this machine, on 127.0.0.1; 0: one that is free.
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    port: u16,
    /// Print the address, and open no browser.
    #[arg(long)]
    no_open: bool,
    #[command(flatten)]
    place: Where,
}

/// Serves until ctrl-C.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let source = Source::find(&args.place).await?;
        // Whoever may not look is told now, and not in a browser.
        source.get("/telemetry/me").await?;
        let front = Front::listen(source, args.port).await?;
        writeln!(io::stdout(), "{}\nctrl-C ends it", front.address())?;
        // For as long as this runs.
        let _page = if args.no_open { None } else { open(&front.address())? };
        tokio::select! {
            () = front.serve() => {}
            interrupted = tokio::signal::ctrl_c() => interrupted?,
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// A control plane at an address of this machine.
pub(crate) struct Front {
    listener: TcpListener,
    port: u16,
    key: String,
    source: Arc<Source>,
}

impl Front {
    /// Listens on 127.0.0.1.
    pub(crate) async fn listen(source: Source, port: u16) -> Result<Self, Error> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let port = listener.local_addr()?.port();
        Ok(Self { listener, port, key: key(), source: Arc::new(source) })
    }

    /// Where a browser finds the dashboard.
    pub(crate) fn address(&self) -> String {
        format!("http://127.0.0.1:{}/{}/dashboard/", self.port, self.key)
    }

    /// Answers forever.
    pub(crate) async fn serve(self) {
        let Self { listener, key, source, .. } = self;
        let (_never, drain) = drain::channel();
        serve_tcp(listener, Door { key, source }, Names::default().for_pages(), drain).await;
    }
}

struct Door {
    key: String,
    source: Arc<Source>,
}

impl Handler for Door {
    async fn handle(&self, request: Request<Bytes>) -> Response<Bytes> {
        let Some(asked) = behind(&self.key, &request) else {
            return text(
                StatusCode::NOT_FOUND,
                "open the whole address that `tulle` has printed\n",
            );
        };
        if asked.method() != Method::GET && !is_wish(&asked) {
            let told = "only GET, and POST of releases\n";
            return text(StatusCode::METHOD_NOT_ALLOWED, told);
        }
        match self.source.send(asked).await {
            Ok(answer) => answer,
            Err(error) => text(StatusCode::BAD_GATEWAY, format!("{}\n", chain(&error))),
        }
    }

    fn limit(&self, _request: &Request<Bytes>) -> Duration {
        // The way there has its own.
        Duration::from_secs(30)
    }
}

/// What is asked of the control plane; `None` for whoever does not know the key.
fn behind(key: &str, request: &Request<Bytes>) -> Option<Request<Bytes>> {
    let rest = request.uri().path_and_query()?.as_str().strip_prefix('/')?.strip_prefix(key)?;
    let rest: PathAndQuery = rest.starts_with('/').then(|| rest.parse().ok())??;
    let mut headers = HeaderMap::new();
    if let Some(coding) = request.headers().get(header::ACCEPT_ENCODING) {
        headers.insert(header::ACCEPT_ENCODING, coding.clone());
    }
    // What is wanted of a release stands in the address.
    let asked = Request::builder().method(request.method()).uri(rest);
    let mut asked = asked.body(Bytes::new()).ok()?;
    *asked.headers_mut() = headers;
    Some(asked)
}

/// Whether somebody wants something of a release.
fn is_wish(asked: &Request<Bytes>) -> bool {
    asked.method() == Method::POST && asked.uri().path().starts_with("/releases/")
}

/// 122 random bits.
fn key() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// In the user's browser, if there is one; whoever has none has the address. A program's arguments are everybody's to see: so
/// the browser is sent to a file that only this user can read, and from there to the address.
fn open(address: &str) -> io::Result<Option<Page>> {
    let page = Page::write(address)?;
    let opened = ["xdg-open", "open"].into_iter().any(|program| {
        let mut command = Command::new(program);
        command.arg(&page.0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().is_ok()
    });
    Ok(opened.then_some(page))
}

/// A file that is gone when it is dropped.
struct Page(PathBuf);

impl Page {
    fn write(address: &str) -> io::Result<Self> {
        let path = env::temp_dir().join(format!("tulle-dashboard-{}.html", key()));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let page = Self(path);
        write!(file, "<!doctype html><meta http-equiv=refresh content=\"0;url={address}\">")?;
        Ok(page)
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::debug!(%error, path = %self.0.display(), "left behind");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_knows_the_key_gets_through() {
        let asked = |path: &str| {
            let request = Request::get(path)
                .header(header::ACCEPT_ENCODING, "gzip")
                .header(header::AUTHORIZATION, "Bearer of-a-page")
                .body(Bytes::new());
            let asked = behind("k1", &request.unwrap())?;
            assert_eq!(asked.headers().len(), 1, "nothing but the coding goes through");
            Some(asked.uri().to_string())
        };
        assert_eq!(
            asked("/k1/telemetry/stat?namespace=shop").as_deref(),
            Some("/telemetry/stat?namespace=shop")
        );
        assert_eq!(asked("/k1/dashboard/").as_deref(), Some("/dashboard/"));
        for path in ["/", "/k1", "/k2/telemetry/stat", "/telemetry/stat", "/k11/x", "//k1/x"] {
            assert_eq!(asked(path), None, "{path}");
        }
    }

    #[tokio::test]
    async fn of_what_changes_something_only_wishes_of_releases_are_sent_on() {
        let nowhere = tempfile::tempdir().unwrap();
        let source = Source::Local(nowhere.path().join("admin.sock"));
        let door = Door { key: "k".to_owned(), source: Arc::new(source) };
        // Who is not there to answer was asked.
        let (sent, refused) = (StatusCode::BAD_GATEWAY, StatusCode::METHOD_NOT_ALLOWED);
        for (method, path, expected) in [
            (Method::POST, "/k/releases/pause?name=reviews", sent),
            (Method::POST, "/k/releases", refused),
            (Method::POST, "/k/telemetry/stat", refused),
            (Method::PUT, "/k/releases/pause?name=reviews", refused),
            (Method::POST, "/other/releases/pause?name=reviews", StatusCode::NOT_FOUND),
        ] {
            let request = Request::builder().method(&method).uri(path).body(Bytes::new()).unwrap();
            if let Some(asked) = behind("k", &request) {
                assert_eq!(asked.method(), method, "{path}");
            }
            let answer = Box::pin(door.handle(request)).await;
            assert_eq!(answer.status(), expected, "{method} {path}");
        }
    }

    #[test]
    fn the_file_that_leads_there_is_the_users_own_and_goes_away() {
        use std::os::unix::fs::PermissionsExt as _;
        let page = Page::write("http://127.0.0.1:1/k/dashboard/").unwrap();
        let path = page.0.clone();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(fs::read_to_string(&path).unwrap().contains("url=http://127.0.0.1:1/k/dashboard/"));
        drop(page);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_control_plane_that_is_away_is_said_so() {
        let nowhere = tempfile::tempdir().unwrap();
        let source = Source::Local(nowhere.path().join("admin.sock"));
        let door = Door { key: "k".to_owned(), source: Arc::new(source) };
        let answer =
            Box::pin(door.handle(Request::get("/k/telemetry/stat").body(Bytes::new()).unwrap()))
                .await;
        assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
        let told = String::from_utf8_lossy(answer.body());
        assert!(
            told.contains("admin.sock") && told.contains("does the program that has it run"),
            "{told}"
        );
    }
}
