//! One connection for all queues with the same settings of it. It reconnects by itself for as long as the process lives.

use crate::error::Failure;
use crate::settings::{Connection, Credentials, Tls};
use async_nats::{Client, ConnectOptions, ServerAddr};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::sync::{Mutex, OnceCell};

type Slot = Arc<OnceCell<Client>>;

/// Connections by the key that the caller gives them. A slot stays, its connection with it: a queue never ends.
static CONNECTIONS: LazyLock<Mutex<HashMap<Vec<u8>, Slot>>> = LazyLock::new(Default::default);

/// How long a reconnect waits after a failed round over all servers.
const RECONNECT: Duration = Duration::from_millis(250);

/// The connection of this key, made if it is not there. Equal keys mean equal settings.
pub(crate) async fn shared(key: Vec<u8>, settings: Connection) -> Result<Client, Failure> {
    let slot = CONNECTIONS.lock().await.entry(key).or_default().clone();
    slot.get_or_try_init(|| connect(settings)).await.cloned()
}

pub(crate) async fn connect(settings: Connection) -> Result<Client, Failure> {
    let secure = settings.tls.is_some();
    let servers = settings.servers.iter().map(|server| address(server, secure)).collect::<Result<Vec<_>, _>>()?;
    let options = with_tls(with_credentials(ConnectOptions::new(), settings.credentials)?, settings.tls);
    let connecting = options
        .name("payment_queue")
        .max_reconnects(None)
        .reconnect_delay_callback(|attempt| if attempt < 2 { Duration::ZERO } else { RECONNECT })
        .ping_interval(Duration::from_secs(5))
        .connection_timeout(settings.timeout)
        .connect(servers);
    match tokio::time::timeout(settings.timeout, connecting).await {
        Ok(Ok(client)) => Ok(client),
        Ok(Err(error)) => Err(Failure::of("cannot connect", &error)),
        Err(_) => Err(Failure(format!("cannot connect: no answer within {} ms", settings.timeout.as_millis()))),
    }
}

fn address(server: &str, secure: bool) -> Result<ServerAddr, Failure> {
    let scheme = if secure { "tls" } else { "nats" };
    format!("{scheme}://{server}").parse().map_err(|error| Failure::of("bad server address", &error))
}

fn with_credentials(options: ConnectOptions, credentials: Credentials) -> Result<ConnectOptions, Failure> {
    Ok(match credentials {
        Credentials::None => options,
        Credentials::Token(token) => options.token(token),
        Credentials::User(user, password) => options.user_and_password(user, password),
        Credentials::Nkey(seed) => options.nkey(seed),
        // The error could quote what it could not read.
        Credentials::Creds(text) => {
            options.credentials(&text).map_err(|_| Failure("the credentials file has no JWT and seed".into()))?
        }
    })
}

fn with_tls(options: ConnectOptions, tls: Option<Tls>) -> ConnectOptions {
    let Some(Tls { roots, client }) = tls else { return options };
    let mut options = options.require_tls(true);
    if let Some(roots) = roots {
        options = options.add_root_certificates(roots);
    }
    if let Some((certificate, key)) = client {
        options = options.add_client_certificate(certificate, key);
    }
    options
}
