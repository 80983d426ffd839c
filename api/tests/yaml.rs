//! YAML as kubectl and Helm read it.

use std::collections::BTreeMap;

use serde_yaml_ng::Value;
use tulle_api::yaml::to_string;

#[test]
fn what_yaml_1_1_would_misread_is_quoted() {
    for text in ["Off", "on", "y", "N", "yes", "NO", "1_000", "0x_1f", "-1_0.5"] {
        assert_eq!(to_string(text).expect("YAML").trim_end(), format!("\"{text}\""));
    }
    for text in ["offer", "Fail", "a_b", "snake_1", "_1", "one two"] {
        assert_eq!(to_string(text).expect("YAML").trim_end(), text);
    }
    let map = BTreeMap::from([("on", vec!["off", "plain"])]);
    assert_eq!(to_string(&map).expect("YAML"), "\"on\":\n- \"off\"\n- plain\n");
}

#[test]
fn the_rest_is_as_it_was() {
    let text = "a: '0777'\nb: \"true\"\nc: |\n  on\n  off\nd: 'it''s: #'\ne: 1\nf: null\n";
    let value: Value = serde_yaml_ng::from_str(text).expect("YAML");
    let again = to_string(&value).expect("YAML");
    assert_eq!(serde_yaml_ng::from_str::<Value>(&again).expect("YAML"), value);
    assert_eq!(again, serde_yaml_ng::to_string(&value).expect("YAML"));
}
