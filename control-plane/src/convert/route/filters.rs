//! Filters, of rules and of backends.

use http::{HeaderName, HeaderValue, StatusCode};
use tulle_xds::model::{Filter, HeaderModifier, PathRewrite, Redirect};

use super::{
    Reader, at_most,
    shape::{self, Header},
};
use crate::{
    convert::{Field, service::number},
    world::objects::MirrorRef,
};

const MAX_FILTERS: usize = 16;
const MILLION: u32 = 1_000_000;

/// What a list of filters says.
#[derive(Debug)]
pub(super) struct Filters {
    /// Those that change requests and responses, in the model's order.
    pub(super) list: Vec<Filter>,
    pub(super) redirect: Option<Redirect>,
    pub(super) mirrors: Vec<MirrorRef>,
    /// The index of the filter that replaces the prefix that was matched.
    pub(super) replaces_prefix: Option<usize>,
    pub(super) rewrites_path: bool,
    /// Whether all of them can be done.
    pub(super) possible: bool,
}

impl Reader<'_> {
    pub(super) fn filters(&mut self, field: &Field, told: &[shape::Filter]) -> Filters {
        at_most(MAX_FILTERS, told.len(), field, self.faults);
        let mut filters = Filters {
            list: Vec::new(),
            redirect: None,
            mirrors: Vec::new(),
            replaces_prefix: None,
            rewrites_path: false,
            possible: true,
        };
        for (at, filter) in told.iter().enumerate() {
            let field = field.index(at);
            let twice = told.iter().take(at).any(|earlier| earlier.r#type == filter.r#type);
            if twice && !matches!(filter.r#type.as_str(), "RequestMirror" | "ExtensionRef") {
                self.fatal(field.clone(), format!("{} is there already", filter.r#type));
            }
            let understood = self.filter(&field, at, filter, &mut filters);
            if understood.is_none() {
                self.fatal(field, format!("says nothing about its type, {}", filter.r#type));
            }
        }
        filters.list.sort_by_key(|filter| match filter {
            Filter::RequestHeaders(_) => 0,
            Filter::ResponseHeaders(_) => 1,
            Filter::Rewrite { .. } => 2,
        });
        let rewrites = filters.list.iter().any(|filter| matches!(filter, Filter::Rewrite { .. }));
        if rewrites && filters.redirect.is_some() {
            self.fatal(field.clone(), "RequestRedirect and URLRewrite exclude each other");
        }
        filters
    }

    /// `None` if what its type announces is not there.
    fn filter(
        &mut self,
        field: &Field,
        at: usize,
        told: &shape::Filter,
        filters: &mut Filters,
    ) -> Option<()> {
        match told.r#type.as_str() {
            "RequestHeaderModifier" => {
                let field = field.key("requestHeaderModifier");
                let headers = self.headers(&field, told.request_header_modifier.as_ref()?);
                filters.list.extend(headers.map(Filter::RequestHeaders));
            }
            "ResponseHeaderModifier" => {
                let field = field.key("responseHeaderModifier");
                let headers = self.headers(&field, told.response_header_modifier.as_ref()?);
                filters.list.extend(headers.map(Filter::ResponseHeaders));
            }
            "URLRewrite" => {
                let rewrite = told.url_rewrite.as_ref()?;
                let path = rewrite.path.as_ref();
                let path = path.and_then(|path| self.path_rewrite(&field.key("urlRewrite"), path));
                filters.note_path(at, path.as_ref());
                filters.rewrites_path = path.is_some();
                let host = rewrite.hostname.clone();
                if host.is_some() || path.is_some() {
                    filters.list.push(Filter::Rewrite { host, path });
                }
            }
            "RequestRedirect" => {
                let field = field.key("requestRedirect");
                let redirect = self.redirect(&field, told.request_redirect.as_ref()?);
                filters.note_path(at, redirect.path.as_ref());
                filters.redirect = Some(redirect);
            }
            "RequestMirror" => {
                let field = field.key("requestMirror");
                let mirror = self.mirror(&field, at, told.request_mirror.as_ref()?);
                filters.mirrors.push(mirror);
            }
            other => {
                filters.possible = false;
                let reason = format!("not in force: the filter {other:.63}; requests get 500");
                self.note(field.key("type"), reason);
            }
        }
        Some(())
    }

    fn headers(&mut self, field: &Field, told: &shape::Headers) -> Option<HeaderModifier> {
        let mut modifier = HeaderModifier {
            set: self.header_list(&field.key("set"), &told.set),
            add: self.header_list(&field.key("add"), &told.add),
            remove: Vec::new(),
        };
        for (at, name) in told.remove.iter().enumerate() {
            modifier.remove.extend(self.header_name(field.key("remove").index(at), name));
        }
        (modifier != HeaderModifier::default()).then_some(modifier)
    }

    fn header_list(&mut self, field: &Field, told: &[Header]) -> Vec<(HeaderName, HeaderValue)> {
        at_most(MAX_FILTERS, told.len(), field, self.faults);
        let mut list = Vec::new();
        for (at, header) in told.iter().enumerate() {
            let field = field.index(at);
            let Ok(value) = HeaderValue::try_from(&header.value) else {
                self.fatal(field.key("value"), "has bytes that a header cannot have");
                continue;
            };
            list.extend(
                self.header_name(field.key("name"), &header.name).map(|name| (name, value)),
            );
        }
        list
    }

    fn header_name(&mut self, field: Field, name: &str) -> Option<HeaderName> {
        let parsed = name.parse();
        parsed.map_err(|_invalid| self.fatal(field, format!("{name:.100?} is no header name"))).ok()
    }

    fn path_rewrite(&mut self, field: &Field, told: &shape::PathRewrite) -> Option<PathRewrite> {
        let full = told.replace_full_path.clone().map(PathRewrite::Full);
        let prefix = told.replace_prefix_match.as_deref();
        let prefix = prefix.map(|path| PathRewrite::Prefix(path.trim_end_matches('/').to_owned()));
        let rewrite = match told.r#type.as_str() {
            "ReplaceFullPath" => full,
            _ => prefix,
        };
        if rewrite.is_none() {
            let reason = format!("says nothing about its type, {}", told.r#type);
            self.fatal(field.key("path"), reason);
        }
        rewrite
    }

    fn redirect(&mut self, field: &Field, told: &shape::Redirect) -> Redirect {
        let status = told.status_code.unwrap_or(302);
        let known = [301, 302, 303, 307, 308].contains(&status);
        let status = u16::try_from(status).ok().filter(|_| known);
        let status = status.and_then(|status| StatusCode::from_u16(status).ok());
        if status.is_none() {
            self.fatal(field.key("statusCode"), "must be 301, 302, 303, 307 or 308");
        }
        let port = told.port.map(number).transpose();
        let port = port.map_err(|reason| self.fatal(field.key("port"), reason));
        Redirect {
            scheme: told.scheme.clone(),
            host: told.hostname.clone(),
            port: port.ok().flatten(),
            path: told.path.as_ref().and_then(|path| self.path_rewrite(field, path)),
            status: status.unwrap_or(StatusCode::FOUND),
        }
    }

    fn mirror(&mut self, field: &Field, at: usize, told: &shape::Mirror) -> MirrorRef {
        let share = match (&told.percent, &told.fraction) {
            (Some(_), Some(_)) => None,
            (None, None) => Some(MILLION),
            (Some(percent), None) => millionths(*percent, 100),
            (None, Some(fraction)) => {
                millionths(fraction.numerator, fraction.denominator.unwrap_or(100))
            }
        };
        if share.is_none() {
            let reason = "needs one of percent (0 to 100) and fraction (0 to 1), or none for all";
            self.fatal(field.clone(), reason);
        }
        let to = self.referent(&field.key("backendRef"), &told.backend_ref, "no copies are sent");
        MirrorRef { at, to, millionths: share.unwrap_or_default() }
    }
}

impl Filters {
    fn note_path(&mut self, at: usize, path: Option<&PathRewrite>) {
        if matches!(path, Some(PathRewrite::Prefix(_))) {
            self.replaces_prefix = Some(at);
        }
    }
}

fn millionths(numerator: i32, denominator: i32) -> Option<u32> {
    let (numerator, denominator) =
        (u64::try_from(numerator).ok()?, u64::try_from(denominator).ok().filter(|d| *d > 0)?);
    (numerator <= denominator)
        .then(|| u32::try_from(numerator * u64::from(MILLION) / denominator).ok())
        .flatten()
}
