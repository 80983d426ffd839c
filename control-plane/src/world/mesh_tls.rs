//! MeshTLS: how pods meet plaintext.

use std::sync::Arc;

use super::{
    Dirty, Subject, World, changes,
    objects::{Kind, MeshTls, Name, Pod, Scope},
    replace,
};

impl World {
    /// The MeshTLS objects that speak about `pod`: least specific first, by name among equals.
    pub fn mesh_tls_for(&self, pod: &Pod) -> Vec<&Arc<MeshTls>> {
        let mesh_wide = self.mesh_tls_by_namespace.get("");
        let mut found: Vec<_> = mesh_wide
            .chain(self.mesh_tls_by_namespace.get(&pod.name.namespace))
            .filter_map(|name| self.mesh_tls.get(name))
            .filter(|tls| tls.scope.has(pod))
            .collect();
        found.sort_by_key(|tls| (tls.scope.specificity(), &tls.name));
        found
    }

    /// A MeshTLS.
    pub fn mesh_tls(&self, name: &Name) -> Option<&Arc<MeshTls>> {
        self.mesh_tls.get(name)
    }

    pub(super) fn set_mesh_tls(
        &mut self,
        name: &Name,
        new: Option<&Arc<MeshTls>>,
        dirty: &mut Dirty,
    ) {
        let Some(old) = replace(&mut self.mesh_tls, name, new) else {
            return;
        };
        for (tls, present) in changes(&old, new) {
            self.mesh_tls_by_namespace.set(tls.scope.home(name), name, present);
            if tls.scope == Scope::Mesh {
                self.touch_every_pod(dirty);
            } else {
                let pods = self.pods_by_namespace.get(&name.namespace);
                dirty.extend(pods.cloned().map(Subject::Pod));
            }
        }
        Self::touch_all(Kind::MeshTls, self.mesh_tls.keys().cloned(), dirty);
    }
}
