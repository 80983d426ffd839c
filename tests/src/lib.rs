//! A real mesh for scenes and benchmarks: [`mesh`] brings it up and asks it things, [`load`] puts load
//! on it by programs that nobody here wrote, [`scene`] is what a scene is.

#![expect(missing_docs, reason = "scenes and benchmarks alone use it, and most names say it all")]

pub mod load;
pub mod mesh;
pub mod scene;
pub mod traces;
