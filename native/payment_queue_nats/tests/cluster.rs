//! What is special where items have three copies, and which servers are refused. Skipped, by name, without a server that is fit.

mod support;

use payment_queue_nats::*;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};
use support::*;

/// A queue for one item, on three new servers.
fn replicated(test: &str) -> Option<(Vec<Server>, Queue)> {
    // Now and then three new servers find no leader; three others do.
    for attempt in 0..3 {
        let servers = cluster(&format!("{test}_{attempt}"))?;
        let addresses: Vec<&str> = servers.iter().map(|server| server.address.as_str()).collect();
        let end = Instant::now() + Duration::from_secs(40);
        while Instant::now() < end {
            let limits = Limits { capacity: 1, ..settings(test).limits };
            let settings = Settings { replicas: 3, allow_unsafe_server: false, limits, ..settings(test) };
            match block_on(Queue::open(addresses.join(",").into(), connection(&addresses), settings)) {
                Ok(queue) => return Some((servers, queue)),
                Err(failure) if failure.0.contains("known to lose") => {
                    println!("skipped, because of the installed server: {test}: {failure}");
                    return None;
                }
                Err(_) => {}
            }
        }
    }
    panic!("three times, three servers found no leader");
}

#[test]
fn an_id_that_was_refused_for_want_of_room_is_never_called_accepted_with_nothing_stored() {
    let Some((_servers, queue)) = replicated("refused_id") else { return };
    assert_eq!(enqueue(&queue, item("first")), Ok(()));
    let named = || Item { id: Some("payment 1".into()), ..item("named") };
    assert_eq!(enqueue(&queue, named()), Err(Refusal::Full));
    assert_eq!(settle_all(&queue, 1), ["first"]);
    // Servers before 2.11 now take the id for a duplicate of the message that they refused, others take the item.
    let again = wait(|done| queue.enqueue(named(), Duration::from_secs(3), done));
    let stored = settle_all(&queue, 1);
    match again {
        Ok(()) => assert_eq!(stored, ["named"]),
        Err(refusal) => assert_eq!((refusal, stored.len()), (Refusal::Unavailable, 0)),
    }
}

#[test]
fn a_dead_letter_that_found_no_room_is_requeued_when_there_is_some() {
    let Some((_servers, queue)) = replicated("requeued") else { return };
    assert_eq!(enqueue(&queue, item("dead")), Ok(()));
    let lease = poll(&queue, 1, 1)[0].lease;
    assert_eq!(wait(|done| queue.reject(lease, Vec::new(), done).unwrap()), Ok(()));
    await_empty(&queue);
    assert_eq!(enqueue(&queue, item("first")), Ok(()));
    for _ in 0..2 {
        assert_eq!(wait(|done| queue.requeue_dead(1, done)), Ok(0));
    }
    assert_eq!(settle_all(&queue, 1), ["first"]);
    assert_eq!(wait(|done| queue.requeue_dead(1, done)), Ok(1));
    assert_eq!(settle_all(&queue, 1), ["dead"]);
    assert_eq!(wait(|done| queue.dead_letters(1, done)).unwrap(), []);
}

#[test]
fn the_bound_is_exact_with_three_copies() {
    let Some((_servers, queue)) = replicated("bound") else { return };
    let (sender, receiver) = std::sync::mpsc::channel();
    for n in 0..50 {
        let sender = sender.clone();
        queue.enqueue(item(&n.to_string()), Duration::from_secs(20), move |result| sender.send(result).unwrap());
    }
    let results: Vec<_> = receiver.iter().take(50).collect();
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert_eq!(results.iter().filter(|result| **result == Err(Refusal::Full)).count(), 49);
}

/// Greets as a server of that version and answers pings, no more.
fn pretend(version: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            std::thread::spawn(move || {
                let mut socket = socket.unwrap();
                let port = address.port();
                let info = format!(
                    r#"{{"server_id":"S","server_name":"s","version":"{version}","go":"","host":"127.0.0.1","port":{port},
                    "headers":true,"max_payload":1048576,"proto":1,"client_id":1,"client_ip":"127.0.0.1"}}"#
                );
                write!(socket, "INFO {}\r\n", info.replace('\n', "")).unwrap();
                let lines = BufReader::new(socket.try_clone().unwrap()).lines();
                for line in lines.map_while(Result::ok) {
                    if line.starts_with("PING") && socket.write_all(b"PONG\r\n").is_err() {
                        return;
                    }
                }
            });
        }
    });
    address.to_string()
}

fn refusal(addresses: &[&str]) -> String {
    let settings = Settings { allow_unsafe_server: false, ..settings("refused") };
    let opened = block_on(Queue::open(addresses.join(",").into(), connection(addresses), settings));
    opened.err().expect("no queue").0
}

#[test]
fn a_queue_is_not_opened_on_a_server_that_is_known_to_lose() {
    let (old, new) = (pretend("2.9.10"), pretend("2.10.27"));
    for addresses in [vec![old.as_str()], vec![old.as_str(), new.as_str()], vec![new.as_str(), old.as_str()]] {
        let text = refusal(&addresses);
        for part in ["nats-server 2.9.10", "2.10.27 or newer", "allow_unsafe_server"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
