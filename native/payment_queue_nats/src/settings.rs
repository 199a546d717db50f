//! What a queue is opened with.

use bytes::Bytes;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// How this client says who it is. Its `Debug` shows the kind alone.
#[derive(Clone, Default)]
pub enum Credentials {
    /// Nobody in particular.
    #[default]
    None,
    /// A token.
    Token(String),
    /// User and password.
    User(String, String),
    /// The seed of an nkey.
    Nkey(String),
    /// The content of a `.creds` file: a JWT and its seed.
    Creds(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Token(_) => "Token(..)",
            Self::User(..) => "User(..)",
            Self::Nkey(_) => "Nkey(..)",
            Self::Creds(_) => "Creds(..)",
        })
    }
}

/// TLS, always with the server's certificate and name checked.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// PEM file of further root certificates, beside the system's.
    pub roots: Option<PathBuf>,
    /// PEM files of this client's certificate and key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// Where the servers are. Queues with equal settings share a connection.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    /// `host:port` of some servers of the cluster; the others are found by themselves.
    pub servers: Vec<String>,
    /// `None`: plain text.
    pub tls: Option<Tls>,
    /// Who this client is.
    pub credentials: Credentials,
    /// How long to try to connect the first time.
    pub timeout: Duration,
}

/// What can change while the queue is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most items in the stream, leased ones included.
    pub capacity: i64,
    /// Most bytes in the stream, as the server counts them: payload, headers, subject and some overhead each.
    pub max_bytes: i64,
    /// Most bytes of one payload.
    pub max_payload_bytes: usize,
    /// Deliveries of an item before it is a dead letter.
    pub max_attempts: u32,
    /// Dead letters kept; 0: none.
    pub max_dead: i64,
}

/// One queue.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of the stream; the dead letters are in `<stream>_dead`.
    pub stream: String,
    /// Copies of every item, each on its own server.
    pub replicas: usize,
    /// After this time without a sign of life an item is delivered to another node.
    pub ack_wait: Duration,
    /// How long the server remembers message ids.
    pub duplicate_window: Duration,
    /// Items fetched ahead of the takers of this node.
    pub prefetch: usize,
    /// Open the queue though a server is known to lose items.
    pub allow_unsafe_server: bool,
    /// The dead letter reason for an item whose holders all died.
    pub lost_reason: Bytes,
    /// What can change later.
    pub limits: Limits,
}
