//! Asks the control plane about releases, and tells it what somebody wants.

use http::Method;
use tulle_control_plane::{
    console::RELEASES,
    steer::{ReleaseView, ReleasesView},
};

use crate::observe::{Asked, Error, Source, Where};

/// Where releases are asked about.
pub(super) struct Desk {
    pub(super) source: Source,
}

impl Asked {
    /// This one, wherever it is.
    pub(super) fn of(view: &ReleaseView) -> Self {
        Self { namespace: Some(view.namespace.clone()), name: view.name.clone() }
    }

    fn path(&self) -> String {
        let namespace = ("namespace", self.namespace.clone().unwrap_or_default());
        path(RELEASES, &[namespace, ("name", self.name.clone())])
    }

    /// The only one there is, of these.
    fn only(&self, found: Vec<ReleaseView>) -> Result<ReleaseView, Error> {
        let found = match <[ReleaseView; 1]>::try_from(found) {
            Ok([only]) => return Ok(only),
            Err(found) => found,
        };
        if !found.is_empty() {
            let all: Vec<_> =
                found.iter().map(|one| format!("{}/{}", one.namespace, one.name)).collect();
            let told =
                format!("there are several: {}; say which, or its namespace by -n", all.join(", "));
            return Err(Error::Usage(told));
        }
        let name = &self.name;
        Err(Error::Absent(match &self.namespace {
            Some(of) => format!(
                "there is no Release {of}/{name} that could be understood; `tulle release list` says which there are, `tulle check` what is wrong with others"
            ),
            None => format!(
                "there is no Release {name} in any namespace that you may see; `tulle release list` says which there are"
            ),
        }))
    }
}

impl Desk {
    /// The one that is meant.
    pub(super) async fn find(place: &Where) -> Result<Self, Error> {
        Ok(Self { source: Source::find(place).await? })
    }

    /// Whether there is no Kubernetes.
    pub(super) fn is_local(&self) -> bool {
        matches!(self.source, Source::Local(_))
    }

    /// All of a namespace, or of all that the user may see.
    pub(super) async fn all(&self, namespace: Option<&str>) -> Result<ReleasesView, Error> {
        let path = path(RELEASES, &[("namespace", namespace.unwrap_or_default().to_owned())]);
        Ok(serde_json::from_str(&self.source.get(&path).await?)?)
    }

    /// This one.
    pub(super) async fn one(&self, asked: &Asked) -> Result<ReleaseView, Error> {
        let all: ReleasesView = serde_json::from_str(&self.source.get(&asked.path()).await?)?;
        asked.only(all.items)
    }

    /// The same with its namespace: nobody needs to see a release to say something of it.
    pub(super) async fn full(&self, asked: &Asked) -> Result<Asked, Error> {
        if asked.namespace.is_some() {
            return Ok(asked.clone());
        }
        Ok(Asked::of(&self.one(asked).await?))
    }

    /// Says that somebody wants this, and returns what came of it.
    pub(super) async fn wish(
        &self,
        asked: &Asked,
        verb: &str,
        said: &[(&str, String)],
    ) -> Result<ReleaseView, Error> {
        let Asked { namespace, name } = self.full(asked).await?;
        let of = [("namespace", namespace.unwrap_or_default()), ("name", name)];
        let said: Vec<_> = of.into_iter().chain(said.iter().cloned()).collect();
        let path = path(&format!("{RELEASES}/{verb}"), &said);
        Ok(serde_json::from_str(&self.source.ask(Method::POST, &path).await?)?)
    }
}

/// With what is said of it; what is empty is not.
fn path(path: &str, said: &[(&str, String)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(said.iter().filter(|(_, value)| !value.is_empty()));
    match query.finish() {
        nothing if nothing.is_empty() => path.to_owned(),
        query => format!("{path}?{query}"),
    }
}
