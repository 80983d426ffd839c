//! The mesh's part of a scene, and how to do without it: a proof that cannot fail proves nothing.

use std::fmt;

/// What the mesh does for a scene. Its control leaves that out, with everything else there: the scene must fail.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// For a person: `retries`.
    pub name: &'static str,
    /// How it is left out.
    pub without: Without,
    /// In what the scene then says: it has to fail for the want of this, and for nothing else.
    pub symptom: &'static str,
}

/// A way to leave something out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Without {
    /// In all YAML of the mesh, the first text stands as the second.
    Text(&'static str, &'static str),
    /// Documents of this kind are not saved.
    Kind(&'static str),
    /// The scene itself does it, as told here, if [`Stage::is_control`](super::Stage::is_control).
    Scene(&'static str),
}

/// No sidecars at all.
pub const SIDECARS: Part = Part {
    name: "sidecars",
    without: Without::Text("tulle.dev/inject: enabled", "tulle.dev/inject: disabled"),
    symptom: "",
};

impl Without {
    /// A file's text, without.
    pub fn applied(self, yaml: &str) -> String {
        match self {
            Self::Text(from, to) => yaml.replace(from, to),
            Self::Kind(kind) => {
                let named = format!("kind: {kind}");
                let others = |document: &&str| !document.lines().any(|line| line == named);
                yaml.split("---\n").filter(others).collect::<Vec<_>>().join("---\n")
            }
            Self::Scene(_) => yaml.to_owned(),
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name;
        match self.without {
            Without::Text(from, to) => {
                let line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
                write!(f, "without {name}: the YAML says `{}`, not `{}`", line(to), line(from))
            }
            Without::Kind(kind) => write!(f, "without {name}: no {kind} is saved"),
            Without::Scene(how) => write!(f, "without {name}: {how}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out() {
        let yaml = "kind: HTTPRoute\nspec: {}\n---\nkind: TrafficPolicy\n---\nkind: Service\n";
        for (without, left) in [
            (Without::Kind("TrafficPolicy"), "kind: HTTPRoute\nspec: {}\n---\nkind: Service\n"),
            (Without::Kind("Traffic"), yaml),
            (Without::Scene("by hand"), yaml),
            (
                Without::Text("---\nkind: TrafficPolicy\n---\nkind: Service\n", ""),
                "kind: HTTPRoute\nspec: {}\n",
            ),
        ] {
            assert_eq!(without.applied(yaml), left, "{without:?}");
        }
    }
}
