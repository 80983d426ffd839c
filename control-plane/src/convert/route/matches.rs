//! Conditions.

use http::{HeaderName, Method};
use tulle_xds::model::{HeaderMatch, Match, PathMatch, QueryMatch, Regex, StringMatch, beyond_re2};

use super::{
    Reader, at_most,
    shape::{self, TypedValue},
};
use crate::convert::Field;

const MAX_CONDITIONS: usize = 16;

impl Reader<'_> {
    /// `None` if there is something wrong with it.
    pub(super) fn matches(&mut self, field: &Field, told: &shape::Match) -> Option<Match> {
        at_most(MAX_CONDITIONS, told.headers.len(), &field.key("headers"), self.faults);
        at_most(MAX_CONDITIONS, told.query_params.len(), &field.key("queryParams"), self.faults);
        let (path, method) = match (&told.path, &told.method) {
            (_, Some(shape::Method::Grpc { service, method, r#type })) => {
                let call = [service.as_deref(), method.as_deref()];
                (self.call(&field.key("method"), call, r#type.as_deref()), None)
            }
            (path, method) => {
                let path = match path {
                    Some(path) => self.path(&field.key("path"), path),
                    None => Some(PathMatch::default()),
                };
                (path, method.as_ref())
            }
        };
        let method = method.and_then(|method| match method {
            shape::Method::Http(method) => Method::from_bytes(method.as_bytes()).ok(),
            shape::Method::Grpc { .. } => None,
        });
        let mut headers: Vec<HeaderMatch> = Vec::new();
        for (at, told) in told.headers.iter().enumerate() {
            let field = field.key("headers").index(at);
            let name = told.name.parse::<HeaderName>();
            let Ok(name) = name else {
                self.fatal(field.key("name"), format!("{:.100?} is no header name", told.name));
                return None;
            };
            let value = self.text(&field, told)?;
            // Of several for one header the first counts.
            if headers.iter().all(|earlier| earlier.name != name) {
                headers.push(HeaderMatch { name, value });
            }
        }
        let mut query: Vec<QueryMatch> = Vec::new();
        for (at, told) in told.query_params.iter().enumerate() {
            let value = self.text(&field.key("queryParams").index(at), told)?;
            if query.iter().all(|earlier| earlier.name != told.name) {
                query.push(QueryMatch { name: told.name.clone(), value });
            }
        }
        Some(Match { path: path?, method, headers, query })
    }

    fn path(&mut self, field: &Field, told: &TypedValue) -> Option<PathMatch> {
        let value = told.value.as_deref().unwrap_or("/");
        let kind = told.r#type.as_deref().unwrap_or("PathPrefix");
        if kind == "RegularExpression" {
            return self.regex(field.key("value"), value).map(PathMatch::Regex);
        }
        if let Err(reason) = check_path(value) {
            self.fatal(field.key("value"), reason);
            return None;
        }
        Some(match kind {
            "Exact" => PathMatch::Exact(value.to_owned()),
            _ => PathMatch::Prefix(value.trim_end_matches('/').to_owned()),
        })
    }

    /// A gRPC call is a request for the path `/SERVICE/METHOD`.
    fn call(
        &mut self,
        field: &Field,
        call: [Option<&str>; 2],
        kind: Option<&str>,
    ) -> Option<PathMatch> {
        let [service, method] = call.map(|text| text.filter(|text| !text.is_empty()));
        if service.is_none() && method.is_none() {
            self.fatal(field.clone(), "needs `service` or `method`");
            return None;
        }
        if kind == Some("RegularExpression") {
            let any = "[^/]+";
            for (key, text) in [("service", service), ("method", method)] {
                // Each by itself, so that one cannot reach out of its place.
                if let Some(text) = text {
                    self.regex(field.key(key), text)?;
                }
            }
            let (service, method) = (service.unwrap_or(any), method.unwrap_or(any));
            let whole = format!("/(?:{service})/(?:{method})");
            return self.regex(field.clone(), &whole).map(PathMatch::Regex);
        }
        for (key, text) in [("service", service), ("method", method)] {
            let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
            if let Some(text) = text.filter(|text| !text.chars().all(good)) {
                self.fatal(field.key(key), format!("{text:.100?} is no gRPC {key}"));
                return None;
            }
        }
        match (service, method) {
            (Some(service), Some(method)) => Some(PathMatch::Exact(format!("/{service}/{method}"))),
            (Some(service), None) => Some(PathMatch::Prefix(format!("/{service}"))),
            // A dot is all that could mean something else.
            (None, method) => {
                let method = method.unwrap_or_default().replace('.', r"\.");
                self.regex(field.clone(), &format!("/[^/]+/{method}")).map(PathMatch::Regex)
            }
        }
    }

    fn text(&mut self, field: &Field, told: &TypedValue) -> Option<StringMatch> {
        let value = told.value.clone().unwrap_or_default();
        match told.r#type.as_deref() {
            Some("RegularExpression") => {
                self.regex(field.key("value"), &value).map(StringMatch::Regex)
            }
            _ => Some(StringMatch::Exact(value)),
        }
    }

    fn regex(&mut self, field: Field, text: &str) -> Option<Regex> {
        regex(text).map_err(|reason| self.fatal(field, reason)).ok()
    }
}

/// The same expressions for all data planes.
pub(in crate::convert) fn regex(text: &str) -> Result<Regex, String> {
    if let Some(reason) = beyond_re2(text) {
        return Err(format!("{text:.100?} is no regular expression for RE2: {reason}"));
    }
    Regex::new(text).map_err(|error| {
        // The library draws a picture over several lines; its last one says it.
        let error = error.to_string();
        let reason = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
        format!("{text:.100?} is no regular expression (RE2): {reason}")
    })
}

fn check_path(path: &str) -> Result<(), String> {
    let forbidden = ["//", "/./", "/../", "%2f", "%2F", "#", "?"];
    if !path.starts_with('/') {
        return Err(format!("{path:.100?} must begin with /"));
    }
    if let Some(part) = forbidden.into_iter().find(|part| path.contains(part)) {
        return Err(format!("{path:.100?} must not have {part:?} in it"));
    }
    if path.ends_with("/..") || path.ends_with("/.") {
        return Err(format!("{path:.100?} must not end with a segment of dots"));
    }
    Ok(())
}
