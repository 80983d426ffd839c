//! `tulle-cni`: a CNI plugin, and the agent that puts it onto a node.

use std::{
    env,
    io::{self, Read, Write},
    os::fd::AsFd,
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};
use tulle_redirect::{
    cni::{
        self, TOOLS, agent,
        node::Node,
        plugin::{self, Environment},
    },
    rules::Options,
};
use tulle_runtime::{log, signal};

/// More is no network's configuration.
const MOST: u64 = 4 << 20;

/// Redirects the traffic of pods that may not do so themselves. A runtime calls it as a CNI plugin, by
/// CNI_COMMAND
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Keep the plugin on this node until told to end, and redirect pods that started before it
    Agent {
        #[command(flatten)]
        folders: Folders,
        /// What to log: a level, or a filter
        #[arg(long, default_value = "info", value_name = "FILTER")]
        log: String,
    },
    /// Whether the plugin is in place on this node
    Ready(Folders),
    /// Redirect the traffic of the network namespace that is standard input, unless it is
    Repair {
        /// A root with nft, iptables and ip
        #[arg(long, value_name = "FOLDER")]
        tools: PathBuf,
        #[command(flatten)]
        options: Options,
    },
}

/// The node's folders, and this image's.
#[derive(Debug, Args)]
struct Folders {
    /// The node's plugins
    #[arg(long, default_value = "/host/bin", value_name = "FOLDER")]
    bin_dir: PathBuf,
    /// The node's network configurations
    #[arg(long, default_value = "/host/net.d", value_name = "FOLDER")]
    conf_dir: PathBuf,
    /// A root with nft, iptables and ip
    #[arg(long, default_value = "/tools", value_name = "FOLDER")]
    tools: PathBuf,
}

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    if let Some(command) = variable("CNI_COMMAND") {
        let netns = variable("CNI_NETNS").unwrap_or_default();
        return as_plugin(&Environment { command, netns });
    }
    let done = match Arguments::parse().command {
        Action::Agent { folders, log } => serve(folders, &log),
        Action::Ready(folders) => {
            folders.node().and_then(|node| node.check().map_err(Failure::from))
        }
        Action::Repair { tools, options } => {
            cni::repair(io::stdin().as_fd(), &tools, &options).map_err(Failure::from)
        }
    };
    log::flush();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where standard error is closed nobody reads it anyway.
            let _closed = writeln!(io::stderr(), "tulle-cni: {error}").is_err();
            ExitCode::FAILURE
        }
    }
}

/// Answers on standard output, whatever the answer is.
fn as_plugin(asked: &Environment) -> ExitCode {
    let mut input = Vec::new();
    let read = io::stdin().take(MOST).read_to_end(&mut input);
    let tools = env::current_exe().map(|program| program.with_file_name(TOOLS));
    let (answer, code) = match (read, tools) {
        (Ok(_), Ok(tools)) => match plugin::run(asked, &input, &tools) {
            Ok(answer) => (answer, ExitCode::SUCCESS),
            Err(failure) => (failure.to_json(), ExitCode::FAILURE),
        },
        (Err(error), _) | (_, Err(error)) => {
            (cni::call::Failure::io(&error).to_json(), ExitCode::FAILURE)
        }
    };
    match io::stdout().write_all(answer.as_bytes()) {
        Ok(()) => code,
        Err(_unread) => ExitCode::FAILURE,
    }
}

fn serve(folders: Folders, filter: &str) -> Result<(), Failure> {
    let _filter = log::init(filter)?;
    let node = folders.node()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let stop = async {
            // Without the handler a signal ends this process at once, which is the same.
            if signal::terminate().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        Ok(agent::run(&node, stop).await?)
    })
}

impl Folders {
    fn node(self) -> Result<Node, Failure> {
        Ok(Node {
            programs: self.bin_dir,
            networks: self.conf_dir,
            program: env::current_exe()?,
            tools: self.tools,
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one place")]
fn variable(name: &str) -> Option<String> {
    env::var(name).ok()
}
