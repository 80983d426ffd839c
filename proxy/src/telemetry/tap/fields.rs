//! Header fields that are kept while somebody asks for them: nobody pays for what nobody looks at, and what nobody looks at is
//! nowhere.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue};
use parking_lot::Mutex;
use tokio::time::Instant;
use tulle_expression::Side;
use tulle_xds::text::bounded;

/// How long they are kept after somebody has asked last, which is done every second.
const LEASE: Duration = Duration::from_secs(10);
/// Names that are asked for at once.
const MOST: usize = 16;
/// Bytes of a value.
const MAX_VALUE: usize = 512;
/// Takes the place of a value that nobody is shown.
const MASK: &str = "(masked)";
/// Of names of fields that hold what lets somebody in: these, and all that have one of these words in them.
const SECRETS: [&str; 12] = [
    "authorization",
    "authentication",
    "x-auth",
    "cookie",
    "token",
    "secret",
    "passw",
    "api-key",
    "apikey",
    "credential",
    "session",
    "signature",
];
/// Fields that hold a URL, of which the query is dropped like a path's.
const URLS: [&str; 6] = [
    "referer",
    "location",
    "content-location",
    "x-original-url",
    "x-forwarded-uri",
    "x-envoy-original-path",
];

/// What is asked for.
#[derive(Debug)]
pub(super) struct Fields {
    begun: Instant,
    /// Milliseconds since then, until when anything is; 0: nothing ever was.
    until: AtomicU64,
    asked: Mutex<Asked>,
}

#[derive(Debug, Default)]
struct Asked {
    /// Until when.
    leases: Vec<(HeaderName, Instant)>,
    names: Arc<[HeaderName]>,
}

/// A field of a request or of its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Field {
    pub(super) side: Side,
    pub(super) name: HeaderName,
    pub(super) value: String,
}

impl Fields {
    pub(super) fn new(begun: Instant) -> Self {
        Self { begun, until: AtomicU64::new(0), asked: Mutex::default() }
    }

    /// These are kept from now on. What is no name is left out, and so is what is too many.
    pub(super) fn ask(&self, names: impl Iterator<Item: AsRef<str>>, now: Instant) {
        let asked = &mut *self.asked.lock();
        let mut changed = asked.leases.len();
        asked.leases.retain(|(_, until)| *until > now);
        changed -= asked.leases.len();
        for name in names {
            let Ok(name) = name.as_ref().parse::<HeaderName>() else { continue };
            let known = asked.leases.iter().position(|(known, _)| *known == name);
            match known {
                Some(known) => asked.leases[known].1 = now + LEASE,
                None if asked.leases.len() == MOST => continue,
                None => {
                    asked.leases.push((name, now + LEASE));
                    changed += 1;
                }
            }
            let until = (now + LEASE).saturating_duration_since(self.begun).as_millis();
            self.until.store(u64::try_from(until).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
        if changed > 0 {
            asked.names = asked.leases.iter().map(|(name, _)| name.clone()).collect();
        }
    }

    /// Keeps what is asked for of a head. Of a field that is there several times, the first is kept.
    pub(super) fn keep(
        &self,
        side: Side,
        headers: &HeaderMap,
        kept: &mut Vec<Field>,
        now: impl FnOnce() -> Instant,
    ) {
        let until = self.until.load(Ordering::Relaxed);
        if until == 0 || now().saturating_duration_since(self.begun).as_millis() > until.into() {
            return;
        }
        let names = Arc::clone(&self.asked.lock().names);
        for name in &*names {
            if let Some(value) = headers.get(name) {
                kept.push(Field { side, name: name.clone(), value: shown(name, value) });
            }
        }
    }
}

impl Field {
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.name.as_str().len() + self.value.capacity()
    }
}

/// What may be told of a value.
fn shown(name: &HeaderName, value: &HeaderValue) -> String {
    let name = name.as_str();
    // HTTP/2's clients say of some fields themselves that they are secret (RFC 7541, 7.1.3).
    if value.is_sensitive()
        || name.ends_with("-key")
        || SECRETS.iter().any(|word| name.contains(word))
    {
        return MASK.to_owned();
    }
    let value = String::from_utf8_lossy(value.as_bytes());
    let value = match URLS.contains(&name) {
        true => value.split(['?', '#']).next().unwrap_or_default(),
        false => &value,
    };
    bounded(value, MAX_VALUE).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> HeaderMap {
        let mut head = HeaderMap::new();
        for (name, value) in [
            ("x-tenant", "blue"),
            ("x-tenant", "red"),
            ("authorization", "Bearer abc"),
            ("referer", "https://shop.example/pay?card=4111#x"),
            ("x-long", &"x".repeat(5000)),
        ] {
            head.append(name, value.parse().unwrap());
        }
        head
    }

    fn kept(fields: &Fields, now: Instant) -> Vec<(String, String)> {
        let mut kept = Vec::new();
        fields.keep(Side::Request, &head(), &mut kept, || now);
        kept.into_iter().map(|field| (field.name.to_string(), field.value)).collect()
    }

    #[test]
    fn fields_are_kept_as_long_as_somebody_asks() {
        let begun = Instant::now();
        let fields = Fields::new(begun);
        assert_eq!(kept(&fields, begun), []);
        let later = |seconds| begun + Duration::from_secs(seconds);
        let tenant = || vec![("x-tenant".to_owned(), "blue".to_owned())];
        fields.ask(["x-tenant", "no name"].into_iter(), later(100));
        assert_eq!(kept(&fields, later(101)), tenant());
        // Somebody else, who goes on.
        fields.ask(["x-absent"].into_iter(), later(105));
        assert_eq!(kept(&fields, later(109)), tenant());
        fields.ask(["x-absent"].into_iter(), later(112));
        assert_eq!(kept(&fields, later(112)), []);
        fields.ask(["x-tenant"].into_iter(), later(113));
        assert_eq!(kept(&fields, later(124)), [], "nobody has asked for long");
        fields.ask(std::iter::empty::<&str>(), later(200));
        assert_eq!(kept(&fields, later(200)), []);
        let many: Vec<_> = (0..1000).map(|n| format!("x-{n}")).collect();
        fields.ask(many.iter(), later(300));
        assert_eq!(fields.asked.lock().names.len(), MOST);
    }

    #[test]
    fn secrets_never_are() {
        let now = Instant::now();
        let fields = Fields::new(now);
        fields.ask(["authorization", "referer", "x-long"].into_iter(), now);
        let kept = kept(&fields, now);
        assert_eq!(kept[0].1, MASK);
        assert_eq!(kept[1].1, "https://shop.example/pay");
        assert_eq!(kept[2].1.len(), MAX_VALUE);
        let of =
            |name: &'static str, value: &HeaderValue| shown(&HeaderName::from_static(name), value);
        for name in [
            "cookie",
            "set-cookie",
            "proxy-authorization",
            "x-api-key",
            "ocp-apim-subscription-key",
            "x-csrf-token",
            "x-amz-security-token",
            "x-auth-request-user",
            "www-authenticate-secret",
        ] {
            assert_eq!(of(name, &HeaderValue::from_static("abc")), MASK, "{name}");
        }
        let mut said = HeaderValue::from_static("abc");
        assert_eq!(of("x-card", &said), "abc");
        said.set_sensitive(true);
        assert_eq!(of("x-card", &said), MASK, "its client says that it is");
    }
}
