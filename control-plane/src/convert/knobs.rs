//! What pods and the MeshConfig say of sidecars' own settings.

use serde_json::Value;
use tulle_api::{Duration, ProxySettings};
use tulle_xds::model::{Form, Knob, Knobs};

use super::{Fault, Field};

/// Before the name of each of our annotations.
pub(crate) const ANNOTATION: &str = "tulle.dev/";

/// The setting that an annotation is about.
pub(crate) fn of_annotation(name: &str) -> Option<Knob> {
    let short = name.strip_prefix(ANNOTATION)?;
    Knob::ALL.into_iter().find(|knob| knob.annotation() == short)
}

/// The value of a setting in an annotation.
///
/// # Errors
/// What it may be.
pub(crate) fn parse(knob: Knob, text: &str) -> Result<u64, String> {
    let text = text.trim();
    let form = knob.form();
    let value = match form {
        Form::Count(..) => text.parse().ok(),
        Form::Time(..) => text.parse::<Duration>().ok().and_then(millis),
        Form::Switch => text.parse::<bool>().ok().map(u64::from),
        Form::Word(words) => word(words, text),
    };
    let value = value.ok_or_else(|| format!("it must be {form}"))?;
    knob.check(value).map(|()| value)
}

/// What a pod's annotations say. Injection refuses bad values; of a pod that came another way they
/// count for nothing, and are named.
pub(super) fn of_pod<'a>(
    annotations: impl Iterator<Item = (&'a String, &'a String)>,
    faults: &mut Vec<Fault>,
) -> Knobs {
    let ours = annotations.filter_map(|(name, text)| Some((of_annotation(name)?, name, text)));
    let read = ours.filter_map(|(knob, name, text)| match parse(knob, text) {
        Ok(value) => Some((knob, value)),
        Err(reason) => {
            let field = Field::from("metadata.annotations").key(name);
            faults.push(Fault::note(field, format!("{text:?}: {reason}; it counts for nothing")));
            None
        }
    });
    read.collect()
}

/// What the MeshConfig says.
pub(super) fn of_mesh(settings: &ProxySettings, faults: &mut Vec<Fault>) -> Knobs {
    let told = serde_json::to_value(settings).unwrap_or_default();
    let said = Knob::ALL.into_iter().filter_map(|knob| Some((knob, told.get(knob.name())?)));
    let read = said.filter_map(|(knob, value)| {
        let number = match value {
            Value::Number(number) => number.as_u64(),
            Value::Bool(on) => Some(u64::from(*on)),
            Value::String(text) => match knob.form() {
                Form::Word(words) => word(words, text),
                _ => text.parse::<Duration>().ok().and_then(millis),
            },
            _ => None,
        };
        let checked = number
            .ok_or_else(|| format!("it must be {}", knob.form()))
            .and_then(|number| knob.check(number).map(|()| number));
        match checked {
            Ok(number) => Some((knob, number)),
            Err(reason) => {
                let field = Field::from("spec.proxy").key(knob.name());
                faults.push(Fault::fatal(field, format!("{value} cannot be: {reason}")));
                None
            }
        }
    });
    read.collect()
}

fn millis(time: Duration) -> Option<u64> {
    u64::try_from(time.get().as_millis()).ok()
}

/// Its index, in whatever case it is written.
fn word(words: &[&str], text: &str) -> Option<u64> {
    words.iter().position(|word| word.eq_ignore_ascii_case(text)).map(|index| index as u64)
}

#[cfg(test)]
mod tests {
    use tulle_api::ForwardedClientCert;

    use super::*;

    #[test]
    fn annotations_are_read_or_refused_with_what_they_may_be() {
        for (name, text, value) in [
            ("max-connections", "100", Ok(100)),
            ("max-connections", "0", Err("a number from 1 to 1000000")),
            ("max-connections", "many", Err("a number from 1 to 1000000")),
            ("max-head-bytes", "4096", Err("a number from 8192 to 1048576")),
            ("max-body-bytes", "0", Ok(0)),
            ("head-timeout", "1m30s", Ok(90_000)),
            (
                "head-timeout",
                "90",
                Err("a time from 1ms to 3600s, written for example 5s or 500ms"),
            ),
            ("preserve-header-case", "true", Ok(1)),
            ("preserve-header-case", "yes", Err("true or false")),
            ("access-log-sample", "0", Ok(0)),
            ("access-log-sample", "1%", Err("a number from 0 to 1000000")),
            ("forwarded-client-cert", "append", Ok(1)),
            ("forwarded-client-cert", "keep", Err("one of Set, Append, Remove")),
        ] {
            let knob = of_annotation(&format!("tulle.dev/{name}")).unwrap();
            let expected = value.map_err(|may: &str| format!("it must be {may}"));
            assert_eq!(parse(knob, text), expected, "{name}: {text}");
        }
        assert_eq!(of_annotation("tulle.dev/inject"), None);
        assert_eq!(of_annotation("example.org/max-streams"), None);
    }

    #[test]
    fn every_setting_is_a_field_of_the_mesh_config_and_bad_values_are_named() {
        let settings = ProxySettings {
            max_connections: Some(1),
            detect_timeout: Some(Duration::from_millis(2)),
            head_timeout: Some(Duration::from_millis(3)),
            client_idle_timeout: Some(Duration::from_millis(4)),
            max_head_bytes: Some(9000),
            max_uri_bytes: Some(5),
            max_headers: Some(6),
            max_body_bytes: Some(7),
            max_streams: Some(8),
            preserve_header_case: Some(true),
            forwarded_client_cert: Some(ForwardedClientCert::Remove),
            access_log_sample: Some(9),
        };
        let mut faults = Vec::new();
        let values: Vec<_> = of_mesh(&settings, &mut faults).into_iter().collect();
        let expected = [1, 2, 3, 4, 9000, 5, 6, 7, 8, 1, 2, 9];
        assert_eq!(values, Knob::ALL.into_iter().zip(expected).collect::<Vec<_>>());
        assert_eq!(faults, []);

        let bad = ProxySettings {
            max_streams: Some(0),
            detect_timeout: Some(Duration::from_millis(100_000)),
            ..settings
        };
        of_mesh(&bad, &mut faults);
        let said: Vec<_> = faults.iter().map(|f| format!("{}: {}", f.field, f.reason)).collect();
        assert_eq!(
            said,
            [
                "spec.proxy.detectTimeout: \"1m40s\" cannot be: it must be a time from 1ms to 60s, \
                 written for example 5s or 500ms",
                "spec.proxy.maxStreams: 0 cannot be: it must be a number from 1 to 10000"
            ]
        );
    }

    /// The CRD refuses at the API server what this table refuses.
    #[test]
    fn the_schema_has_the_same_ranges() {
        let crds = tulle_api::crd::all();
        let crd = crds.iter().map(|crd| serde_json::to_value(crd).unwrap());
        let crd = crd.into_iter().find(|crd| crd["spec"]["names"]["kind"] == "MeshConfig").unwrap();
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let fields = &schema["properties"]["spec"]["properties"]["proxy"]["properties"];
        for knob in Knob::ALL {
            let field = &fields[knob.name()];
            assert!(field.is_object(), "{}", knob.name());
            if let Form::Count(least, most) = knob.form() {
                let bound = |key: &str| field[key].as_f64();
                assert_eq!(bound("minimum"), Some(least as f64), "{}", knob.name());
                assert_eq!(bound("maximum"), Some(most as f64), "{}", knob.name());
            }
        }
    }
}
