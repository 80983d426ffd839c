//! `tulle completion`: what a shell completes after `tulle`.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::{Command, Parser, ValueEnum};
use clap_complete::{Shell, generate};

/// Print the script by which a shell completes commands and options.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:\n  \
    source <(tulle completion bash)                                        in this shell\n  \
    tulle completion bash > /etc/bash_completion.d/tulle                   in every one\n  \
    tulle completion zsh > \"${fpath[1]}/_tulle\"\n  \
    tulle completion fish > ~/.config/fish/completions/tulle.fish")]
pub(crate) struct Args {
    /// Which shell.
    shell: Known,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Known {
    Bash,
    Zsh,
    Fish,
}

/// Prints it for `command`.
pub(crate) fn run(args: &Args, mut command: Command) -> io::Result<ExitCode> {
    let shell = match args.shell {
        Known::Bash => Shell::Bash,
        Known::Zsh => Shell::Zsh,
        Known::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    generate(shell, &mut command, "tulle", &mut script);
    io::stdout().lock().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}
