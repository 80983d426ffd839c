//! What the sidecar asks for and may use: what the installation says, the pod's annotations over it, and
//! all of it within what the pod says for its containers together.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{api::core::v1::PodSpec, apimachinery::pkg::api::resource::Quantity};

use super::{BadAnnotation, Resources, Settings};

/// An annotation about one amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Said {
    /// Its name.
    pub(super) name: &'static str,
    resource: &'static str,
    of: Of,
    /// With less it does not run, or something else was meant (`64` is 64 bytes).
    least: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Request,
    Limit,
}

pub(super) const ANNOTATIONS: [Said; 4] = [
    Said { name: "tulle.dev/proxy-cpu-request", resource: "cpu", of: Of::Request, least: "1m" },
    Said { name: "tulle.dev/proxy-cpu-limit", resource: "cpu", of: Of::Limit, least: "10m" },
    Said {
        name: "tulle.dev/proxy-memory-request",
        resource: "memory",
        of: Of::Request,
        least: "1Mi",
    },
    Said { name: "tulle.dev/proxy-memory-limit", resource: "memory", of: Of::Limit, least: "16Mi" },
];

impl Said {
    /// Reads its value into `resources`.
    ///
    /// # Errors
    /// What it may be.
    pub(super) fn read(self, value: &str, resources: &mut Resources) -> Result<(), String> {
        let value = value.trim();
        let (whole, example) = match self.resource {
            "cpu" => (MILLI, "100m or 2"),
            _ => (ONE, "64Mi or 1Gi"),
        };
        let least = amount(self.least).unwrap_or_default();
        let good = amount(value).filter(|amount| *amount >= least && amount % whole == 0);
        if good.is_none() {
            let Self { resource, least, .. } = self;
            return Err(format!(
                "it must be an amount of {resource} of {least} or more, written for example {example}"
            ));
        }
        self.of(resources).insert(self.resource.to_owned(), Quantity(value.to_owned()));
        Ok(())
    }

    fn of(self, resources: &mut Resources) -> &mut BTreeMap<String, Quantity> {
        match self.of {
            Of::Request => &mut resources.requests,
            Of::Limit => &mut resources.limits,
        }
    }
}

/// The settings of one pod: with the amounts for its sidecar, which says `said` of them by annotation. And
/// a word to whoever made it, if its own containers get less by that.
///
/// # Errors
/// An annotation that cannot be beside what else is said.
pub(super) fn settle(
    settings: &Settings,
    said: &Resources,
    spec: &PodSpec,
) -> Result<(Settings, Option<String>), BadAnnotation> {
    let mut proxy = over(&settings.proxy_resources, said)?;
    // A quota wants a limit of every container. Nothing runs beside this one, so it costs nothing.
    let mut redirect = settings.redirect_resources.clone();
    for (name, limit) in &said.limits {
        let limit = match redirect.requests.get(name) {
            Some(request) if less(limit, request) => request,
            _ => limit,
        };
        redirect.limits.entry(name.clone()).or_insert_with(|| limit.clone());
    }
    let taken = within(&mut proxy, said, spec);
    within(&mut redirect, &Resources::default(), spec);
    let taken: Vec<_> = taken.iter().map(|(name, amount)| format!("{name} {}", amount.0)).collect();
    let word = (!taken.is_empty()).then(|| {
        format!(
            "spec.resources is for all containers of the pod, and what the sidecar uses comes out of it: make it \
             larger by what it asks for elsewhere ({})",
            taken.join(", ")
        )
    });
    Ok((
        Settings { proxy_resources: proxy, redirect_resources: redirect, ..settings.clone() },
        word,
    ))
}

/// What the installation says, with what the pod says in its place.
fn over(settings: &Resources, said: &Resources) -> Result<Resources, BadAnnotation> {
    let mut all = settings.clone();
    all.requests.extend(said.requests.clone());
    all.limits.extend(said.limits.clone());
    for (name, limit) in &all.limits {
        let Some(request) = all.requests.get_mut(name).filter(|request| less(limit, request))
        else {
            continue;
        };
        if said.requests.contains_key(name) {
            return Err(BadAnnotation {
                name: format!("tulle.dev/proxy-{name}-request"),
                value: request.0.clone(),
                reason: format!(
                    "it must not be more than the limit, {}; tulle.dev/proxy-{name}-limit changes that",
                    limit.0
                ),
            });
        }
        *request = limit.clone();
    }
    Ok(all)
}

/// Pod-level resources: the API server refuses a pod whose containers ask together for more than it, or one
/// of which may use more. So of what the pod names the container asks for nothing of its own, unless it is
/// `said`, and has no higher limit. Returns what it would have asked for.
fn within(
    resources: &mut Resources,
    said: &Resources,
    spec: &PodSpec,
) -> BTreeMap<String, Quantity> {
    let mut taken = BTreeMap::new();
    let Some(pod) = &spec.resources else { return taken };
    let (requests, limits) =
        (pod.requests.clone().unwrap_or_default(), pod.limits.clone().unwrap_or_default());
    let names = resources.requests.keys().chain(resources.limits.keys());
    for name in names.cloned().collect::<BTreeSet<_>>() {
        let unsaid = !said.requests.contains_key(&name);
        match (requests.get(&name), limits.get(&name)) {
            (None, None) => {}
            // The API server takes the limit for the request, unless a container has a request.
            (None, Some(_)) if unsaid => {
                taken.extend(resources.requests.remove_entry(&name));
                resources.limits.remove(&name);
            }
            (_, most) => {
                if unsaid {
                    // Without one it would be the limit.
                    let none = Quantity("0".to_owned());
                    let before = resources.requests.insert(name.clone(), none);
                    taken.extend(before.map(|before| (name.clone(), before)));
                }
                if let (Some(limit), Some(most)) = (resources.limits.get_mut(&name), most)
                    && !less(limit, most)
                {
                    *limit = most.clone();
                }
            }
        }
    }
    taken
}

/// Whether the first is the smaller one. What we cannot read is neither.
fn less(a: &Quantity, b: &Quantity) -> bool {
    amount(&a.0).zip(amount(&b.0)).is_some_and(|(a, b)| a < b)
}

const ONE: i128 = 1_000_000_000;
const MILLI: i128 = 1_000_000;

/// A quantity of Kubernetes, in billionths: `100m`, `1.5Gi`, `2e3`.
fn amount(text: &str) -> Option<i128> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    let unit = match unit {
        "n" => 1,
        "u" => 1_000,
        "m" => MILLI,
        "" => ONE,
        "k" => ONE * 1_000,
        "M" => ONE * 1_000_000,
        "G" => ONE * 1_000_000_000,
        "T" => ONE * 1_000_000_000_000,
        "P" => ONE * 1_000_000_000_000_000,
        "E" => ONE * 1_000_000_000_000_000_000,
        "Ki" => ONE << 10,
        "Mi" => ONE << 20,
        "Gi" => ONE << 30,
        "Ti" => ONE << 40,
        "Pi" => ONE << 50,
        "Ei" => ONE << 60,
        other => {
            let exponent: i32 = other.strip_prefix(['e', 'E'])?.parse().ok()?;
            10_i128.checked_pow(u32::try_from(exponent.checked_add(9)?).ok()?)?
        }
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && part.is_empty() || part.len() > 9 {
        return None;
    }
    let read = |digits: &str| if digits.is_empty() { Some(0) } else { digits.parse::<i128>().ok() };
    let scale = 10_i128.checked_pow(u32::try_from(part.len()).ok()?)?;
    read(whole)?.checked_mul(unit)?.checked_add(read(part)?.checked_mul(unit)? / scale)
}

#[cfg(test)]
mod tests;
