//! Real servers on free loopback ports, and calls that wait. The environment variable NATS_SERVER names another program.

// Each test file uses its part.
#![allow(dead_code)]

use payment_queue_nats::*;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

pub struct Server {
    process: Child,
    directory: PathBuf,
    arguments: Vec<String>,
    pub address: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

impl Server {
    /// `None`: there is no such program here.
    fn start(name: &str, mut arguments: Vec<String>) -> Option<Self> {
        let directory = std::env::temp_dir().join(format!("payment_queue_nats_{}_{name}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let port = free_port();
        let own = ["-a", "127.0.0.1", "-p", &port.to_string(), "-js", "-sd", directory.to_str().unwrap()];
        arguments.extend(own.map(String::from));
        let process = spawn(&arguments)?;
        Some(Self { process, directory, arguments, address: format!("127.0.0.1:{port}") }.ready())
    }

    /// As `kill -9` does.
    pub fn stop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    pub fn start_again(&mut self) {
        self.process = spawn(&self.arguments).expect("the program that was there");
    }

    fn ready(self) -> Self {
        let end = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(&self.address).is_err() {
            assert!(Instant::now() < end, "nats-server did not start");
            std::thread::park_timeout(Duration::from_millis(10));
        }
        self
    }
}

fn spawn(arguments: &[String]) -> Option<Child> {
    Command::new(std::env::var("NATS_SERVER").unwrap_or("nats-server".into()))
        .env("PATH", format!("{}:/usr/sbin:/usr/local/sbin", std::env::var("PATH").unwrap_or_default()))
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// One server. `None`: there is no nats-server here, which is said.
pub fn server(test: &str) -> Option<Server> {
    let server = Server::start(test, Vec::new());
    if server.is_none() {
        println!("skipped, because nats-server is not installed: {test}");
    }
    server
}

/// Three servers that know each other.
pub fn cluster(test: &str) -> Option<Vec<Server>> {
    let routes: Vec<String> = (0..3).map(|_| format!("nats://127.0.0.1:{}", free_port())).collect();
    let servers = routes.iter().enumerate().map(|(n, route)| {
        let name = format!("n{n}");
        let arguments =
            ["--cluster_name", test, "--cluster", route, "--routes", &routes.join(","), "--server_name", &name];
        Server::start(&format!("{test}_{n}"), arguments.map(String::from).into())
    });
    let servers: Option<Vec<Server>> = servers.collect();
    if servers.is_none() {
        println!("skipped, because nats-server is not installed: {test}");
    }
    servers
}

/// The servers of the tests may be older than what a queue is opened on: on one server, nothing here makes them lose.
pub fn settings(stream: &str) -> Settings {
    Settings {
        stream: stream.into(),
        replicas: 1,
        ack_wait: Duration::from_secs(30),
        duplicate_window: Duration::from_secs(120),
        prefetch: 0,
        allow_unsafe_server: true,
        lost_reason: "lost".into(),
        limits: Limits { capacity: 100, max_bytes: 1 << 30, max_payload_bytes: 1000, max_attempts: 3, max_dead: 10 },
    }
}

pub fn connection(addresses: &[&str]) -> Connection {
    let servers = addresses.iter().map(|address| address.to_string()).collect();
    Connection { servers, timeout: Duration::from_secs(10), ..Default::default() }
}

pub fn open(server: &Server, settings: Settings) -> Queue {
    block_on(Queue::open(server.address.clone().into(), connection(&[&server.address]), settings)).unwrap()
}

/// Calls with a callback, and waits until that was called.
pub fn wait<T: Send + 'static>(call: impl FnOnce(Box<dyn FnOnce(T) + Send>)) -> T {
    let (sender, receiver) = mpsc::channel();
    call(Box::new(move |value| sender.send(value).unwrap()));
    receiver.recv_timeout(Duration::from_secs(60)).expect("an answer in time")
}

pub fn item(text: &str) -> Item {
    Item { payload: Payload { bytes: text.to_string().into(), is_term: false }, id: None, delay: Duration::ZERO }
}

pub fn enqueue(queue: &Queue, item: Item) -> Result<(), Refusal> {
    wait(|done| queue.enqueue(item, Duration::from_secs(10), done))
}

pub fn poll(queue: &Queue, owner: Owner, n: usize) -> Vec<Delivery> {
    wait(|done| queue.poll(owner, n, done))
}

/// A settled item leaves a stream of several copies a moment after it was settled.
pub fn await_empty(queue: &Queue) {
    assert!(wait(|done| queue.await_empty(Some(Duration::from_secs(20)), done)));
}

/// Acknowledges what is there, waits until it is gone, and returns the texts.
pub fn settle_all(queue: &Queue, owner: Owner) -> Vec<String> {
    let taken = poll(queue, owner, 100);
    for delivery in &taken {
        assert_eq!(wait(|done| queue.ack(delivery.lease, done).unwrap()), Ok(()));
    }
    await_empty(queue);
    taken.iter().map(|delivery| String::from_utf8(delivery.payload.bytes.to_vec()).unwrap()).collect()
}
