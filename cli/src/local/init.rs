//! First process of the mesh's namespaces: starts the runtime and waits for whatever becomes its own
//! child. Processes that lose their parent do; if nobody waited for them, a container's namespace could
//! never end.
//!
//! It is a process of its own because it waits for anybody's end, which would take from the runtime the
//! ends of the processes that the runtime itself has started.

use std::{
    env, io,
    process::{Command, ExitCode},
    thread,
};

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, wait};

/// Runs the mesh `name` until it ends; its exit status.
///
/// # Errors
/// If the runtime cannot be started.
pub(super) fn run(name: &str) -> io::Result<ExitCode> {
    let runtime =
        Command::new(env::current_exe()?).args(["local", "runtime", "--name", name]).spawn()?;
    let id = i32::try_from(runtime.id()).ok().and_then(Pid::from_raw);
    let runtime = id.ok_or_else(|| io::Error::other("the runtime has no process id"))?;
    thread::spawn(move || forward_termination(runtime));
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == runtime => return Ok(exit_code(status)),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The kernel drops a signal that the first process of a namespace does not handle.
fn forward_termination(runtime: Pid) {
    let waiting = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let told = waiting.and_then(|waiting| waiting.block_on(tulle_runtime::signal::terminate()));
    if told.and_then(|()| Ok(kill_process(runtime, Signal::TERM)?)).is_err() {
        tracing::error!("signals have no effect");
    }
}

fn exit_code(status: WaitStatus) -> ExitCode {
    let code = status.exit_status().and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}
