use std::path::PathBuf;

/// What the agent offers, and where.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Serve certificate (secret `default`) and roots (`ROOTCA`) to Envoy on this Unix socket
    #[arg(long, value_name = "SOCKET")]
    pub sds: Option<PathBuf>,
    /// Write certificate.pem, key.pem and roots.pem into this folder, which must be in memory
    #[arg(long, value_name = "FOLDER")]
    pub files: Option<PathBuf>,
    /// Carry xDS connections from this port of 127.0.0.1 to the control plane
    #[arg(long, value_name = "PORT")]
    pub ads: Option<u16>,
    /// Write a bootstrap for Envoy that takes its secrets from --sds
    #[arg(long, value_name = "FILE", requires = "sds")]
    pub envoy_bootstrap: Option<PathBuf>,
    /// Write a bootstrap for gRPC (GRPC_XDS_BOOTSTRAP) with --files and --ads
    #[arg(long, value_name = "FILE", requires_all = ["files", "ads"])]
    pub grpc_bootstrap: Option<PathBuf>,
}
