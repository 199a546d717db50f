//! Which servers keep what they acknowledge.

use crate::connect;
use crate::error::Failure;
use crate::settings::Connection;
use async_nats::Client;
use futures_util::future::join_all;
use std::time::Duration;

/// The oldest server that a queue is opened on. Before 2.10.14 each copy of a full work queue decides for itself, by the acks
/// that it has seen, what still fits: the copies drift apart, and an ack deletes other items than the acknowledged one. Before
/// 2.10.6 a server whose stream is over `max_bytes` deletes the oldest items, also with one copy. Up to 2.10.26 a restart could cut
/// a log below what was applied. `examples/failover.rs` shows the first.
const OLDEST: [u32; 3] = [2, 10, 27];

/// How long a server that is asked for its version alone may take. One that is down is not waited for any longer.
const ASKED: Duration = Duration::from_secs(2);

/// What is wrong with the servers in the queue's list that can be reached: those that are too old to be trusted.
pub(crate) async fn unfit(client: &Client, connection: Connection) -> Option<String> {
    let mut versions = vec![client.server_info().version];
    if connection.servers.len() > 1 {
        let asked = connection.servers.iter().map(|server| version(server, &connection));
        versions.extend(join_all(asked).await.into_iter().flatten());
    }
    let old = versions.into_iter().find(|version| !is_fit(version))?;
    let [major, minor, patch] = OLDEST;
    Some(format!(
        "nats-server {old} is known to lose items that it has acknowledged, for example whenever the queue is full: all \
         servers have to be version {major}.{minor}.{patch} or newer"
    ))
}

async fn version(server: &str, connection: &Connection) -> Option<String> {
    let timeout = connection.timeout.min(ASKED);
    let one = Connection { servers: vec![server.into()], timeout, ..connection.clone() };
    connect::connect(one).await.ok().map(|client| client.server_info().version)
}

/// The error of a queue that must not be opened.
pub(crate) fn refusal(unfit: &str) -> Failure {
    Failure(format!("{unfit} (or the option allow_unsafe_server: true, where a lost item does no harm)"))
}

/// What cannot be read is not fit.
fn is_fit(version: &str) -> bool {
    let mut numbers = version.trim_start_matches('v').splitn(3, '.').map(|part| {
        let end = part.find(|character: char| !character.is_ascii_digit()).unwrap_or(part.len());
        part[..end].parse::<u32>().ok()
    });
    let version = [numbers.next().flatten(), numbers.next().flatten(), numbers.next().flatten()];
    version.iter().all(Option::is_some) && version >= OLDEST.map(Some)
}

#[cfg(test)]
mod tests {
    use super::is_fit;

    #[test]
    fn old_and_unreadable_versions_are_not_fit() {
        for version in ["2.10.27", "v2.10.27", "2.10.29-RC.1", "2.11.0", "3.0.0", "2.100.0"] {
            assert!(is_fit(version), "{version}");
        }
        for version in ["2.9.10", "2.10.26", "2.10.3", "1.99.99", "", "2", "2.10", "new", "2.x.30"] {
            assert!(!is_fit(version), "{version}");
        }
    }
}
