//! What three servers acknowledge and then lose, seen by async-nats alone: nothing of this crate is used but its runtime.
//!
//! Arguments: the nats-server program, the scenario, the stream's `max_messages` (0: none).
//! Scenarios: `steady` (nothing fails), `stepdown` (the leader hands over, five times), `loop` (each server is killed and
//! started again 3 s later), or a number: one server is killed and away for so many seconds.
//!
//! Producers publish under a message id and repeat until they are answered; consumers confirm each ack. All sequences are kept: that
//! of the publish's answer and that of the delivery, which are the same in a sound log. Each server's own idea of the stream is
//! asked for, too.

use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::{self, AckKind, Context, message::PublishMessage, stream};
use futures_util::StreamExt;
use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

const STREAM: &str = "failover";
const SUBJECT: &str = "failover.items";
const PRODUCERS: u64 = 8;
const CONSUMERS: u64 = 8;
const ATTEMPT: Duration = Duration::from_secs(2);
const ACK_WAIT: Duration = Duration::from_secs(5);

/// One server of the cluster.
struct Node {
    program: PathBuf,
    directory: PathBuf,
    port: u16,
    monitor: u16,
    arguments: Vec<String>,
    process: Option<Child>,
}

impl Node {
    fn start(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.directory.join("log")).expect("a log");
        let (port, monitor) = (self.port.to_string(), self.monitor.to_string());
        let process = Command::new(&self.program)
            .args(["-a", "127.0.0.1", "-p", &port, "-m", &monitor, "-js", "-sd"])
            .arg(&self.directory)
            .args(&self.arguments)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.process = Some(process.expect("a server"));
    }

    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// This server's own copy of the stream: messages, first and last sequence.
    fn copy(&self) -> Option<[u64; 3]> {
        let mut socket = TcpStream::connect(("127.0.0.1", self.monitor)).ok()?;
        socket.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
        socket.write_all(b"GET /jsz?streams=true HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).ok()?;
        let body: serde_json::Value = serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()?;
        let state = &body["account_details"][0]["stream_detail"][0]["state"];
        Some([state["messages"].as_u64()?, state["first_seq"].as_u64()?, state["last_seq"].as_u64()?])
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port").port()
}

fn cluster(program: &Path) -> Vec<Node> {
    let routes: Vec<u16> = (0..3).map(|_| free_port()).collect();
    let urls: Vec<String> = routes.iter().map(|route| format!("nats://127.0.0.1:{route}")).collect();
    let mut nodes: Vec<Node> = routes
        .iter()
        .enumerate()
        .map(|(n, _)| {
            let directory = std::env::temp_dir().join(format!("pq_failover_{}_{n}", std::process::id()));
            std::fs::create_dir_all(&directory).expect("a directory");
            let arguments =
                ["--cluster_name", "pq", "--cluster", &urls[n], "--routes", &urls.join(","), "--server_name"];
            let mut arguments: Vec<String> = arguments.map(String::from).into();
            arguments.push(format!("n{n}"));
            Node {
                program: program.into(),
                directory,
                port: free_port(),
                monitor: free_port(),
                arguments,
                process: None,
            }
        })
        .collect();
    nodes.iter_mut().for_each(Node::start);
    nodes
}

#[derive(Clone, Copy)]
struct Published {
    sequence: u64,
    duplicate: bool,
    attempts: u32,
    second: u64,
}

/// What was seen. The key is the message id.
#[derive(Default)]
struct Seen {
    published: Mutex<HashMap<u64, Published>>,
    /// The sequences under which an item was delivered.
    delivered: Mutex<HashMap<u64, Vec<u64>>>,
    full: AtomicU64,
    unanswered: AtomicU64,
    stopped: AtomicBool,
}

async fn produce(context: Context, seen: Arc<Seen>, producer: u64, begin: Instant) {
    for n in 1.. {
        if seen.stopped.load(Relaxed) {
            return;
        }
        publish(&context, &seen, producer << 32 | n, begin).await;
    }
}

async fn publish(context: &Context, seen: &Seen, id: u64, begin: Instant) {
    let deadline = Instant::now() + Duration::from_secs(30);
    for attempts in 1.. {
        let message = PublishMessage::build().payload(id.to_string().into()).message_id(id.to_string());
        let attempt = async { context.send_publish(SUBJECT, message).await?.await };
        match timeout(ATTEMPT, attempt).await {
            Ok(Ok(ack)) => {
                let (sequence, duplicate, second) = (ack.sequence, ack.duplicate, begin.elapsed().as_secs());
                seen.published.lock().unwrap().insert(id, Published { sequence, duplicate, attempts, second });
                return;
            }
            Ok(Err(error)) if attempts == 1 && format!("{error:?}").contains("maximum messages exceeded") => {
                seen.full.fetch_add(1, Relaxed);
                return;
            }
            _ if Instant::now() > deadline => {
                seen.unanswered.fetch_add(1, Relaxed);
                return;
            }
            _ => sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn consume(consumer: PullConsumer, seen: Arc<Seen>) {
    loop {
        let batch = consumer.batch().max_messages(16).expires(Duration::from_secs(1)).messages().await;
        let Ok(mut batch) = batch else {
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        while let Ok(Some(Ok(message))) = timeout(Duration::from_secs(3), batch.next()).await {
            let id = std::str::from_utf8(&message.payload).ok().and_then(|text| text.parse().ok()).expect("an id");
            let sequence = message.info().expect("where it is from").stream_sequence;
            seen.delivered.lock().unwrap().entry(id).or_default().push(sequence);
            let deadline = Instant::now() + ACK_WAIT;
            while Instant::now() < deadline
                && !matches!(timeout(ATTEMPT, message.double_ack_with(AckKind::Ack)).await, Ok(Ok(())))
            {
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn open(context: &Context, max_messages: i64) -> Result<(stream::Stream, PullConsumer), async_nats::Error> {
    let config = stream::Config {
        name: STREAM.into(),
        subjects: vec![SUBJECT.into()],
        retention: stream::RetentionPolicy::WorkQueue,
        discard: stream::DiscardPolicy::New,
        max_messages: if max_messages == 0 { -1 } else { max_messages },
        num_replicas: 3,
        ..Default::default()
    };
    let stream = context.create_stream(config).await?;
    let config = pull::Config {
        durable_name: Some("workers".into()),
        ack_policy: AckPolicy::Explicit,
        ack_wait: ACK_WAIT,
        max_deliver: -1,
        max_ack_pending: -1,
        ..Default::default()
    };
    let consumer = stream.create_consumer(config).await?;
    Ok((stream, consumer))
}

async fn opened(context: &Context, max_messages: i64) -> (stream::Stream, PullConsumer) {
    loop {
        match open(context, max_messages).await {
            Ok(opened) => return opened,
            Err(_) => sleep(Duration::from_millis(500)).await,
        }
    }
}

async fn outages(scenario: &str, nodes: &mut [Node], client: &async_nats::Client) {
    let pause = |seconds| sleep(Duration::from_secs(seconds));
    match scenario {
        "steady" => pause(20).await,
        "stepdown" => {
            for _ in 0..5 {
                pause(4).await;
                let asked = client.request(format!("$JS.API.STREAM.LEADER.STEPDOWN.{STREAM}"), "".into()).await;
                println!("  step down: {}", asked.map_or_else(|error| error.to_string(), |_| "done".into()));
            }
            pause(4).await;
        }
        "loop" => {
            for node in nodes.iter_mut() {
                pause(2).await;
                node.kill();
                pause(3).await;
                node.start();
                pause(2).await;
            }
            pause(3).await;
        }
        seconds => {
            pause(2).await;
            nodes[0].kill();
            pause(seconds.parse().expect("a scenario")).await;
            nodes[0].start();
            pause(20).await;
        }
    }
}

/// Empty is what the leader has called empty for five seconds while all copies were current.
async fn drained(stream: &stream::Stream) -> bool {
    let (mut agreed, deadline) = (0, Instant::now() + Duration::from_secs(120));
    while agreed < 10 && Instant::now() < deadline {
        let info = timeout(ATTEMPT, stream.get_info()).await;
        let empty = matches!(&info, Ok(Ok(info)) if info.state.messages == 0
            && info.cluster.as_ref().is_some_and(|cluster| cluster.leader.is_some()
                && cluster.replicas.len() == 2
                && cluster.replicas.iter().all(|replica| replica.current && !replica.offline)));
        agreed = if empty { agreed + 1 } else { 0 };
        sleep(Duration::from_millis(500)).await;
    }
    agreed == 10
}

fn copies(nodes: &[Node]) -> String {
    let show = |copy: Option<[u64; 3]>| copy.map_or("-".into(), |[n, first, last]| format!("{n} ({first}..{last})"));
    nodes.iter().map(|node| show(node.copy())).collect::<Vec<_>>().join("  ")
}

fn report(seen: &Seen, nodes: &[Node], empty: bool) {
    let (published, delivered) = (seen.published.lock().unwrap(), seen.delivered.lock().unwrap());
    let mut lost: Vec<(u64, Published)> =
        published.iter().filter(|(id, _)| !delivered.contains_key(id)).map(|(id, ack)| (*id, *ack)).collect();
    lost.sort_by_key(|(_, ack)| (ack.second, ack.sequence));
    let mut owners: HashMap<u64, u64> = HashMap::new();
    published.values().filter(|ack| !ack.duplicate).for_each(|ack| *owners.entry(ack.sequence).or_default() += 1);
    let at: HashSet<u64> = delivered.values().flatten().copied().collect();
    let doubles: usize = delivered.values().map(|sequences| sequences.len() - 1).sum();
    let moved = |id: &u64, ack: &Published| delivered.get(id).is_some_and(|at| !at.contains(&ack.sequence));
    println!(
        "acknowledged {}, LOST {}, delivered twice {doubles}, full {}, unanswered {}, empty in the end: {empty}",
        published.len(),
        lost.len(),
        seen.full.load(Relaxed),
        seen.unanswered.load(Relaxed),
    );
    println!(
        "acknowledged as duplicates {}, with sequence 0: {}; two ids acknowledged under one sequence: {}; \
         delivered under another sequence than acknowledged: {}",
        published.values().filter(|ack| ack.duplicate).count(),
        published.values().filter(|ack| ack.sequence == 0).count(),
        owners.values().filter(|n| **n > 1).count(),
        published.iter().filter(|(id, ack)| moved(id, ack)).count(),
    );
    println!(
        "of the lost: acknowledged as duplicates {}, with sequence 0: {}, at the first attempt {}; \
         sequences that were delivered, with other items: {}",
        lost.iter().filter(|(_, ack)| ack.duplicate).count(),
        lost.iter().filter(|(_, ack)| ack.sequence == 0).count(),
        lost.iter().filter(|(_, ack)| ack.attempts == 1).count(),
        lost.iter().filter(|(_, ack)| at.contains(&ack.sequence)).count(),
    );
    let mut by_second: Vec<(u64, u64)> = Vec::new();
    for (_, ack) in &lost {
        match by_second.last_mut() {
            Some((second, n)) if *second == ack.second => *n += 1,
            _ => by_second.push((ack.second, 1)),
        }
    }
    println!("lost by second of their acknowledgement: {by_second:?}");
    println!("copies: {}", copies(nodes));
    for (id, ack) in lost.iter().take(5) {
        println!(
            "  e.g. item {}/{}: second {}, sequence {}, duplicate {}, attempts {}",
            id >> 32,
            id & 0xffff_ffff,
            ack.second,
            ack.sequence,
            ack.duplicate,
            ack.attempts
        );
    }
}

fn main() -> Result<(), async_nats::Error> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, program, scenario, max_messages] = &arguments[..] else {
        panic!("arguments: program scenario max_messages")
    };
    payment_queue_nats::block_on(run(program, scenario, max_messages.parse()?))
}

async fn run(program: &str, scenario: &str, max_messages: i64) -> Result<(), async_nats::Error> {
    // Now and then three new servers find no leader; three others do.
    let (mut nodes, client, context, (stream, consumer)) = loop {
        let nodes = cluster(Path::new(program));
        let urls: Vec<String> = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        let options = async_nats::ConnectOptions::new().retry_on_initial_connect().max_reconnects(None);
        let client = options.reconnect_delay_callback(|_| Duration::from_millis(250)).connect(&urls[..]).await?;
        let context = jetstream::new(client.clone());
        if let Ok(opened) = timeout(Duration::from_secs(60), opened(&context, max_messages)).await {
            break (nodes, client, context, opened);
        }
    };
    println!("nats-server {}, {scenario}, max_messages {max_messages}", client.server_info().version);
    let (seen, begin) = (Arc::<Seen>::default(), Instant::now());
    let producers: Vec<_> =
        (1..=PRODUCERS).map(|p| tokio::spawn(produce(context.clone(), seen.clone(), p, begin))).collect();
    let consumers: Vec<_> = (0..CONSUMERS).map(|_| tokio::spawn(consume(consumer.clone(), seen.clone()))).collect();
    outages(scenario, &mut nodes, &client).await;
    println!("copies at the end of the load, messages (first..last): {}", copies(&nodes));
    seen.stopped.store(true, Relaxed);
    for producer in producers {
        producer.await?;
    }
    let empty = drained(&stream).await;
    consumers.iter().for_each(tokio::task::JoinHandle::abort);
    report(&seen, &nodes, empty);
    Ok(())
}
