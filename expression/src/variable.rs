//! What an expression can ask for. Names are Envoy's where it has the same thing:
//! <https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/advanced/attributes>.

/// The type of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// True or false.
    Bool,
    /// 64 bits, signed.
    Int,
    /// A text.
    Text,
    /// A time between two moments; CEL's duration.
    Span,
}

/// Whose header fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The request's.
    Request,
    /// The answer's.
    Response,
}

macro_rules! variables {
    ($($(#[doc = $doc:literal])+ $variant:ident $name:literal $kind:ident,)+) => {
        /// Something that is known of a request or connection.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Variable {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Variable {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// As an expression names it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// Its type.
            pub fn kind(self) -> Kind {
                match self {
                    $(Self::$variant => Kind::$kind,)+
                }
            }
        }
    };
}

variables! {
    /// `inbound` or `outbound`.
    Direction "direction" Text,
    /// `http/1.0`, `http/1.1`, `http/2`, `tcp`.
    Protocol "protocol" Text,
    /// The method.
    Method "request.method" Text,
    /// The path without its query.
    Path "request.path" Text,
    /// The host that was asked for.
    Host "request.host" Text,
    /// The status of the answer.
    Code "response.code" Int,
    /// The gRPC status by name, `NOT_FOUND`.
    GrpcStatus "grpc.status" Text,
    /// From its arrival to its end.
    Duration "duration" Span,
    /// Bytes that the client sent.
    BytesReceived "bytes.received" Int,
    /// Bytes that it was sent.
    BytesSent "bytes.sent" Int,
    /// Attempts at endpoints.
    Attempts "attempts" Int,
    /// The workload that calls.
    SourceWorkload "source.workload" Text,
    /// Its namespace.
    SourceNamespace "source.namespace" Text,
    /// Its SPIFFE id.
    SourcePrincipal "source.principal" Text,
    /// The workload that is called.
    DestinationWorkload "destination.workload" Text,
    /// Its namespace.
    DestinationNamespace "destination.namespace" Text,
    /// Its SPIFFE id.
    DestinationPrincipal "destination.principal" Text,
    /// The Service that is called, `HOST:PORT`.
    DestinationService "destination.service" Text,
    /// Whether it was encrypted between sidecars.
    Mtls "connection.mtls" Bool,
    /// The rule that matched, `KIND/NAMESPACE/NAME#RULE`.
    Route "route" Text,
    /// Why the sidecar ended it.
    Reason "reason" Text,
    /// Whose fault a failure is.
    Fault "fault" Text,
    /// The object that decided.
    Policy "policy" Text,
    /// The policy that would have refused it.
    Audit "audit" Text,
    /// Whether it is a copy, whose answer is thrown away.
    Mirror "mirror" Bool,
    /// Whether it ended otherwise than it should.
    Failed "failed" Bool,
    /// Whether it is in the sample.
    Sampled "sampled" Bool,
}

impl Variable {
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|variable| variable.name() == name)
    }
}

impl Kind {
    /// For messages: it is …
    pub(crate) fn told(self) -> &'static str {
        match self {
            Self::Bool => "true or false",
            Self::Int => "a number",
            Self::Text => "a text",
            Self::Span => "a duration",
        }
    }
}

impl Side {
    /// The map of its header fields, as an expression names it.
    pub(crate) fn map(self) -> &'static str {
        match self {
            Self::Request => "request.headers",
            Self::Response => "response.headers",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        [Self::Request, Self::Response].into_iter().find(|side| side.map() == name)
    }
}
