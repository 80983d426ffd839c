//! What a command is about, as it is typed.

use super::{Error, label};

/// Which object.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Which {
    /// Its name: NAME or NAMESPACE/NAME.
    #[arg(value_name = "NAME")]
    object: String,
    /// Its namespace.
    #[arg(short, long, value_name = "NAMESPACE", value_parser = label)]
    namespace: Option<String>,
}

/// The same, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) namespace: Option<String>,
    pub(crate) name: String,
}

impl Which {
    /// Reads it.
    pub(crate) fn asked(&self) -> Result<Asked, Error> {
        Asked::read(&self.object, self.namespace.as_deref())
    }
}

impl Asked {
    /// From `NAME` or `NAMESPACE/NAME`, and what is said by `-n`.
    pub(crate) fn read(text: &str, namespace: Option<&str>) -> Result<Self, Error> {
        let (of, name) = match text.split_once('/') {
            Some((of, name)) => (Some(of), name),
            None => (namespace, text),
        };
        if let (Some(of), Some(namespace)) = (of, namespace)
            && of != namespace
        {
            let told = format!("{text} is of namespace {of}, and -n says {namespace}");
            return Err(Error::Usage(told));
        }
        let wrong =
            |why: String| Error::Usage(format!("{text:?}: {why}; write NAME or NAMESPACE/NAME"));
        let namespace = of.map(label).transpose().map_err(wrong)?;
        Ok(Self { namespace, name: label(name).map_err(wrong)? })
    }
}
